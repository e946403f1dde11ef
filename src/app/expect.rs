//! `Expect: 100-continue` (RFC 9110, section 10.1.1): a client that waits before it sends its body is told to
//! when the application begins to read it, and never where its head alone is refused. actix-http tells every one
//! of them. Used by `server`, between actix-http and the application.

use actix_http::{Payload, Request, Response};
use actix_service::{Service, ServiceFactory, fn_factory};
use actix_web::{
    HttpMessage,
    body::{BoxBody, MessageBody},
    dev::ServiceResponse,
    error::PayloadError,
    web::Bytes,
};
use futures_util::{
    Stream,
    future::{Either, LocalBoxFuture},
};
use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};
use tokio::sync::{OnceCell, oneshot};

/// An application as actix-http asks it: first, of a request that expects, whether to go on, and then for the
/// answer to every request.
pub(super) struct OnDemand<F: ServiceFactory<Request>>(Rc<Shared<F>>);

struct Shared<F: ServiceFactory<Request>> {
    application: F,
    service: OnceCell<Rc<F::Service>>,
}

impl<F, B> OnDemand<F>
where
    F: ServiceFactory<Request, Config = (), Response = ServiceResponse<B>> + 'static,
    F::Error: Into<Response<BoxBody>>,
    <F::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    pub(super) fn new(application: F) -> Self {
        Self(Rc::new(Shared {
            application,
            service: OnceCell::new(),
        }))
    }

    pub(super) fn expecting(
        &self,
    ) -> impl ServiceFactory<
        Request,
        Config = (),
        Response = Request,
        Error = Response<BoxBody>,
        InitError = F::InitError,
    > + use<F, B> {
        let shared = Rc::clone(&self.0);
        fn_factory(move || {
            let shared = Rc::clone(&shared);
            async move { shared.service().await.map(Expecting) }
        })
    }

    pub(super) fn answering(
        &self,
    ) -> impl ServiceFactory<
        Request,
        Config = (),
        Response = F::Response,
        Error = F::Error,
        InitError = F::InitError,
    > + use<F, B> {
        let shared = Rc::clone(&self.0);
        fn_factory(move || {
            let shared = Rc::clone(&shared);
            async move { shared.service().await.map(Answering) }
        })
    }
}

impl<F: ServiceFactory<Request, Config = ()>> Shared<F> {
    /// The same one for both.
    async fn service(&self) -> Result<Rc<F::Service>, F::InitError> {
        let make = async || self.application.new_service(()).await.map(Rc::new);
        self.service.get_or_try_init(make).await.cloned()
    }
}

/// Says whether a client is to send the body that it waits with; else gives the answer.
struct Expecting<S>(Rc<S>);

/// Answers, also what [`Expecting`] has begun with.
struct Answering<S>(Rc<S>);

/// A request that the application is at. In the place of a request, for actix-http to carry it.
struct Begun<F>(Pin<Box<F>>);

impl<S, B> Service<Request> for Expecting<S>
where
    S: Service<Request, Response = ServiceResponse<B>>,
    S::Error: Into<Response<BoxBody>>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = Request;
    type Error = Response<BoxBody>;
    type Future = LocalBoxFuture<'static, Result<Request, Response<BoxBody>>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&self, mut request: Request) -> Self::Future {
        let (want, wanted) = oneshot::channel();
        let payload = request.take_payload();
        if !matches!(payload, Payload::None) {
            *request.payload() = Payload::Stream {
                payload: Box::pin(Withheld {
                    payload,
                    want: Some(want),
                }),
            };
        }
        let mut answer = Box::pin(self.0.call(request));
        Box::pin(async move {
            tokio::select! {
                biased;
                answer = &mut answer => Err(match answer {
                    Ok(answer) => Response::from(answer).map_into_boxed_body(),
                    Err(error) => error.into(),
                }),
                Ok(()) = wanted => {
                    let request = Request::new();
                    request.extensions_mut().insert(Begun(answer));
                    Ok(request)
                }
            }
        })
    }
}

impl<S> Service<Request> for Answering<S>
where
    S: Service<Request>,
    S::Future: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Pin<Box<S::Future>>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&self, request: Request) -> Self::Future {
        let begun = request.extensions_mut().remove::<Begun<S::Future>>();
        match begun {
            Some(Begun(answer)) => Either::Right(answer),
            None => Either::Left(self.0.call(request)),
        }
    }
}

/// A body that the client may be waiting with.
struct Withheld {
    payload: Payload,
    want: Option<oneshot::Sender<()>>,
}

impl Stream for Withheld {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(want) = this.want.take() {
            // Where it has been answered meanwhile, nobody wants to know.
            let _ = want.send(());
        }
        Pin::new(&mut this.payload).poll_next(context)
    }
}
