//! Server-Sent Events from the bytes of a stream
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), as far as the server uses them.

use std::mem;

/// One message of the stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) id: Option<String>,
    pub(super) data: Option<String>,
}

/// Collects bytes until they are whole frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    /// Where in the buffer the first line begins that is not read.
    line: usize,
    /// Up to where there is no end of that line.
    searched: usize,
    frame: Frame,
}

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.line);
        self.searched -= self.line;
        self.line = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes of a line that has no end yet.
    pub(super) fn rest_bytes(&self) -> usize {
        self.buffer.len() - self.line
    }

    /// The next whole frame that says something.
    pub(super) fn next(&mut self) -> Option<Frame> {
        while let Some(length) = self.buffer[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n')
        {
            let end = self.searched + length;
            let line = String::from_utf8_lossy(&self.buffer[self.line..end]);
            let line = line.strip_suffix('\r').unwrap_or(&line);
            let is_end_of_frame = line.is_empty();
            read_field(line, &mut self.frame);
            self.line = end + 1;
            self.searched = end + 1;
            if is_end_of_frame && self.frame != Frame::default() {
                return Some(mem::take(&mut self.frame));
            }
        }
        self.searched = self.buffer.len();
        None
    }
}

fn read_field(line: &str, frame: &mut Frame) {
    // A comment has no name.
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let value = value.strip_prefix(' ').unwrap_or(value);
    match (name, &mut frame.data) {
        ("id", _) => frame.id = Some(value.to_owned()),
        ("data", None) => frame.data = Some(value.to_owned()),
        ("data", Some(data)) => {
            data.push('\n');
            data.push_str(value);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 1000\nid: 1-0\n\n:\n\nid: 2-1\r\nevent: event\r\ndata: {\"a\":\"ü:\"}\r\n\r\n\
        data:one\ndata: two\n\nid: 3-0\ndata: never ended";

    fn frame(id: Option<&str>, data: Option<&str>) -> Frame {
        Frame {
            id: id.map(str::to_owned),
            data: data.map(str::to_owned),
        }
    }

    #[test]
    fn frames_are_the_same_wherever_the_stream_is_cut() {
        let expected = [
            frame(Some("1-0"), None),
            frame(Some("2-1"), Some("{\"a\":\"ü:\"}")),
            frame(None, Some("one\ntwo")),
        ];
        for size in 1..=STREAM.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for bytes in STREAM.as_bytes().chunks(size) {
                frames.push(bytes);
                found.extend(std::iter::from_fn(|| frames.next()));
            }
            assert_eq!(found, expected, "in pieces of {size}");
            assert_eq!(frames.rest_bytes(), "data: never ended".len());
        }
    }
}
