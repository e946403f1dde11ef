//! The stream's commands, and entries out of their answers. Used by the bridge actor; knows Redis
//! and nothing of events. <https://redis.io/docs/latest/develop/data-types/streams/>

use super::{names::StreamNames, nodes::BrokerNodes};
use redis::{Pipeline, RedisError, Value, aio::MultiplexedConnection};
use std::time::Duration;

/// The longest an answer may take, beyond the time that a blocking command may block.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a read waits for new entries.
const BLOCK: Duration = Duration::from_secs(1);

/// An entry of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    /// Names and values, in order; `None` where the entry was deleted while it was pending.
    pub(super) fields: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Entry {
    pub(super) fn size_bytes(&self) -> usize {
        let fields = self.fields.iter().flatten();
        fields.map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// One connection to the stream.
#[derive(Clone)]
pub(super) struct StreamConnection {
    connection: MultiplexedConnection,
    names: StreamNames,
}

impl StreamConnection {
    /// A connection of its own: a blocking read stalls all who share its connection.
    pub(super) async fn open(nodes: &BrokerNodes, names: &StreamNames) -> Result<Self, RedisError> {
        let response_timeout = BLOCK + RESPONSE_TIMEOUT;
        Ok(Self {
            connection: nodes.connect(&names.stream, response_timeout).await?,
            names: names.clone(),
        })
    }

    /// Makes the group, from the stream's beginning, where it is not there yet.
    pub(super) async fn ensure_group(&mut self) -> Result<(), RedisError> {
        let made = redis::cmd("XGROUP")
            .arg("CREATE")
            .arg(&self.names.stream)
            .arg(&self.names.group)
            .arg("0")
            .arg("MKSTREAM")
            .query_async::<()>(&mut self.connection)
            .await;
        match made {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            other => other,
        }
    }

    /// Entries that were delivered to this consumer before and are not acknowledged.
    pub(super) async fn read_pending(
        &mut self,
        after: &str,
        count: usize,
    ) -> Result<Vec<Entry>, RedisError> {
        let mut command = self.read_command(count);
        command.arg("STREAMS").arg(&self.names.stream).arg(after);
        entries_read(command.query_async(&mut self.connection).await?)
    }

    /// Entries that were delivered to nobody yet; waits a while where there are none.
    pub(super) async fn read_new(&mut self, count: usize) -> Result<Vec<Entry>, RedisError> {
        let mut command = self.read_command(count);
        command.arg("BLOCK").arg(BLOCK.as_millis().to_string());
        command.arg("STREAMS").arg(&self.names.stream).arg(">");
        entries_read(command.query_async(&mut self.connection).await?)
    }

    fn read_command(&self, count: usize) -> redis::Cmd {
        let mut command = redis::cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(&self.names.group)
            .arg(&self.names.consumer)
            .arg("COUNT")
            .arg(count);
        command
    }

    /// Takes over entries that nobody has acknowledged for that long. Returns where to go on, and
    /// `0-0` at the end.
    pub(super) async fn claim(
        &mut self,
        idle: Duration,
        from: &str,
        count: usize,
    ) -> Result<(String, Vec<Entry>), RedisError> {
        let answer: Value = redis::cmd("XAUTOCLAIM")
            .arg(&self.names.stream)
            .arg(&self.names.group)
            .arg(&self.names.consumer)
            .arg(idle.as_millis().to_string())
            .arg(from)
            .arg("COUNT")
            .arg(count)
            .query_async(&mut self.connection)
            .await?;
        let Value::Array(parts) = answer else {
            return Err(unexpected("XAUTOCLAIM"));
        };
        let mut parts = parts.into_iter();
        let next = parts
            .next()
            .and_then(text)
            .ok_or_else(|| unexpected("XAUTOCLAIM"))?;
        let entries = parts
            .next()
            .map_or_else(|| Ok(Vec::new()), entries_of_stream)?;
        Ok((next, entries))
    }

    /// Acknowledges entries and deletes them: what is stored need not be kept twice.
    pub(super) async fn acknowledge(&mut self, ids: &[String]) -> Result<(), RedisError> {
        acknowledgement(&self.names, ids)
            .query_async(&mut self.connection)
            .await
    }
}

/// One transaction: an entry that is acknowledged and not deleted belongs to nobody, and would stay
/// in the stream for ever.
fn acknowledgement(names: &StreamNames, ids: &[String]) -> Pipeline {
    let mut both = redis::pipe();
    both.atomic()
        .cmd("XACK")
        .arg(&names.stream)
        .arg(&names.group)
        .arg(ids)
        .ignore()
        .cmd("XDEL")
        .arg(&names.stream)
        .arg(ids)
        .ignore();
    both
}

/// `nil`, or one pair of a stream's name and its entries.
fn entries_read(answer: Value) -> Result<Vec<Entry>, RedisError> {
    let streams = match answer {
        Value::Nil => return Ok(Vec::new()),
        Value::Array(streams) => streams,
        _ => return Err(unexpected("XREADGROUP")),
    };
    let Some(Value::Array(pair)) = streams.into_iter().next() else {
        return Ok(Vec::new());
    };
    pair.into_iter()
        .nth(1)
        .map_or_else(|| Ok(Vec::new()), entries_of_stream)
}

fn entries_of_stream(value: Value) -> Result<Vec<Entry>, RedisError> {
    match value {
        Value::Array(entries) => entries.into_iter().map(entry).collect(),
        Value::Nil => Ok(Vec::new()),
        _ => Err(unexpected("a list of entries")),
    }
}

fn entry(value: Value) -> Result<Entry, RedisError> {
    let Value::Array(parts) = value else {
        return Err(unexpected("an entry"));
    };
    let mut parts = parts.into_iter();
    let id = parts
        .next()
        .and_then(text)
        .ok_or_else(|| unexpected("an entry's id"))?;
    let fields = match parts.next() {
        Some(Value::Array(flat)) => {
            let mut flat = flat.into_iter();
            let mut fields = Vec::with_capacity(flat.len() / 2);
            while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
                fields.push((bytes(name)?, bytes(value)?));
            }
            Some(fields)
        }
        _ => None,
    };
    Ok(Entry { id, fields })
}

fn bytes(value: Value) -> Result<Vec<u8>, RedisError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(unexpected("an entry's field")),
    }
}

fn text(value: Value) -> Option<String> {
    bytes(value)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
}

fn unexpected(what: &'static str) -> RedisError {
    RedisError::from((
        redis::ErrorKind::UnexpectedReturnType,
        "the server's answer has another shape than expected",
        what.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn entries_come_with_their_fields_and_deleted_ones_without() {
        let answer = Value::Array(vec![Value::Array(vec![
            bulk("oncelog:events"),
            Value::Array(vec![
                Value::Array(vec![
                    bulk("1-0"),
                    Value::Array(vec![bulk("event"), bulk("{}")]),
                ]),
                Value::Array(vec![bulk("2-0"), Value::Nil]),
            ]),
        ])]);
        let entries = entries_read(answer).unwrap();
        assert_eq!(
            entries[0].fields,
            Some(vec![(b"event".to_vec(), b"{}".to_vec())])
        );
        assert_eq!(entries[0].size_bytes(), 7);
        assert_eq!((entries[1].id.as_str(), &entries[1].fields), ("2-0", &None));
    }

    #[test]
    fn entries_are_acknowledged_and_deleted_in_one_transaction() {
        let names = StreamNames {
            stream: "s".to_owned(),
            group: "g".to_owned(),
            consumer: "c".to_owned(),
        };
        let sent = acknowledgement(&names, &["1-0".to_owned(), "2-0".to_owned()]);
        let sent = String::from_utf8(sent.get_packed_pipeline()).unwrap();
        let words = sent
            .split("\r\n")
            .filter(|word| !word.starts_with(['*', '$']));
        let expected = "MULTI XACK s g 1-0 2-0 XDEL s 1-0 2-0 EXEC ";
        assert_eq!(words.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn nothing_new_is_no_entries() {
        assert_eq!(entries_read(Value::Nil).unwrap(), Vec::new());
    }
}
