//! The words in which the calls are described: parameters, answers, examples. Used by the files of
//! calls beside this one.

use super::problems;
use serde_json::Value;
use utoipa::openapi::{
    Content, ContentBuilder, Header, HttpMethod, Object, ObjectBuilder, PathItem, PathsBuilder,
    Ref, RefOr, Required, Response, ResponseBuilder, Schema, SecurityRequirement, Type,
    header::HeaderBuilder,
    path::{OperationBuilder, ParameterBuilder, ParameterIn},
};

pub(super) const JSON: &str = "application/json";

/// The calls that can be described next.
pub(super) struct Call {
    pub(super) operation: OperationBuilder,
}

impl Call {
    pub(super) fn new(tag: &str, id: &str, summary: &str, about: &str) -> Self {
        let operation = OperationBuilder::new()
            .tag(tag)
            .operation_id(Some(id))
            .summary(Some(summary));
        let operation = match about {
            "" => operation,
            _ => operation.description(Some(about)),
        };
        Self { operation }.refuses(&[405, 421])
    }

    pub(super) fn parameter(mut self, parameter: ParameterBuilder) -> Self {
        self.operation = self.operation.parameter(parameter);
        self
    }

    pub(super) fn answers(mut self, status: u16, answer: impl Into<RefOr<Response>>) -> Self {
        self.operation = self.operation.response(status.to_string(), answer);
        self
    }

    /// The statuses of [`problems`] that this call can be refused with.
    pub(super) fn refuses(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            let name = problems::name(*status);
            self.operation = self.operation.response(
                status.to_string(),
                RefOr::Ref(Ref::from_response_name(name)),
            );
        }
        self
    }

    /// The call takes a token, where the service has any.
    pub(super) fn guarded(mut self) -> Self {
        let bearer = SecurityRequirement::new::<_, [&str; 0], &str>("bearer", []);
        self.operation = self.operation.security(bearer);
        self.refuses(&[401, 403, 429])
    }

    /// The call needs the database: it may be away, or refuse what we ask.
    pub(super) fn asks_database(self) -> Self {
        self.refuses(&[500, 503])
    }

    pub(super) fn at(self, method: HttpMethod, path: &str, paths: PathsBuilder) -> PathsBuilder {
        paths.path(path, PathItem::new(method, self.operation))
    }
}

/// A parameter of the query string.
pub(super) fn query(name: &str, about: &str, schema: ObjectBuilder) -> ParameterBuilder {
    parameter(name, ParameterIn::Query, Required::False, about, schema)
}

/// A part of the path.
pub(super) fn path(name: &str, about: &str, schema: ObjectBuilder) -> ParameterBuilder {
    parameter(name, ParameterIn::Path, Required::True, about, schema)
}

/// A header of the request.
pub(super) fn header(name: &str, about: &str, schema: ObjectBuilder) -> ParameterBuilder {
    parameter(name, ParameterIn::Header, Required::False, about, schema)
}

fn parameter(
    name: &str,
    place: ParameterIn,
    required: Required,
    about: &str,
    schema: ObjectBuilder,
) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(about))
        .schema(Some(schema.build()))
}

pub(super) fn string() -> ObjectBuilder {
    Object::builder().schema_type(Type::String)
}

/// One of the texts that name something: a topic, an event id, a source.
pub(super) fn name() -> ObjectBuilder {
    string()
        .min_length(Some(1))
        .max_length(Some(255))
        // Not only white space, and no control character.
        .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"))
}

/// A page size.
pub(super) fn limit(default: u32) -> ParameterBuilder {
    let schema = Object::builder()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .default(Some(default.into()));
    query(
        "limit",
        "Entries on a page; more than 1000 is cut to 1000.",
        schema,
    )
}

/// A reference to a schema of the components.
pub(super) fn named(name: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}

pub(super) fn content(schema: impl Into<RefOr<Schema>>, example: Value) -> Content {
    ContentBuilder::new()
        .schema(Some(schema))
        .example(Some(example))
        .build()
}

/// An answer with a JSON body.
pub(super) fn json(about: &str, schema: &str, example: Value) -> ResponseBuilder {
    ResponseBuilder::new()
        .description(about)
        .content(JSON, content(named(schema), example))
}

/// An answer with a body of text.
pub(super) fn text(about: &str, content_type: &str, example: &str) -> ResponseBuilder {
    ResponseBuilder::new()
        .description(about)
        .content(content_type, content(string().build(), example.into()))
}

/// A header of an answer.
pub(super) fn sent(about: &str) -> Header {
    HeaderBuilder::new()
        .schema(string().build())
        .description(Some(about))
        .build()
}
