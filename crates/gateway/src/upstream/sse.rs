//! Server-sent events, read incrementally and within caps (HTML Living Standard, section 9.2.6).

/// Collects the `data` of events from chunks of bytes.
#[derive(Debug, Default)]
pub(crate) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    max: usize,
}

/// An event broke the cap.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Events {
    /// A reader that refuses events of more than `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Events { max, ..Events::default() }
    }

    /// Takes a chunk; gives the data of each event it completes. Events without data are left out.
    pub(crate) fn take(&mut self, chunk: &[u8]) -> Result<Vec<Vec<u8>>, TooLarge> {
        let mut done = Vec::new();
        for part in chunk.split_inclusive(|b| *b == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() + self.data.len() > self.max {
                return Err(TooLarge);
            }
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.take_line(trim(&line), &mut done);
            }
        }
        Ok(done)
    }

    fn take_line(&mut self, line: &[u8], done: &mut Vec<Vec<u8>>) {
        if line.is_empty() {
            if !self.data.is_empty() {
                done.push(std::mem::take(&mut self.data));
            }
        } else if let Some(data) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
    }
}

fn trim(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_however_the_bytes_are_cut() {
        let stream =
            b": hello\r\n\r\nevent: message\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nid: 3\ndata:\n\ndata:two\n\n";
        for size in 1..stream.len() {
            let mut events = Events::new(1000);
            let got: Vec<Vec<u8>> =
                stream.chunks(size).flat_map(|chunk| events.take(chunk).unwrap()).collect();
            assert_eq!(got, [b"{\"a\":\n1}".to_vec(), b"two".to_vec()], "cut every {size}");
        }
    }

    // proves: A42
    #[test]
    fn an_event_without_an_end_is_refused() {
        let mut events = Events::new(100);
        let endless =
            std::iter::repeat_n(b"data: xxxxxxxxxx\n", 20).find_map(|chunk| events.take(chunk).err());
        assert_eq!(endless, Some(TooLarge));
    }
}
