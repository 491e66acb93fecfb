//! The input of `produce`: files or standard input, line by line, each with its place.
//!
//! A line ends with a line feed, which does not belong to it; everything else does, so that what is read
//! back is bit-exact. A last line without one counts, an empty rest does not.
//!
//! Lines are handed over in chunks of what could be read without waiting, so that reading can be done on a thread
//! of its own and a line that is typed is not kept for the next one.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::cli::failure::{Failure, Outcome};
use crate::cli::units::Bytes;

const BUFFER_BYTES: usize = 256 << 10;

/// No line is added to a chunk of this size.
const CHUNK_BYTES: usize = 256 << 10;

/// Lines that were read in one go.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    text: Vec<u8>,
    lines: Vec<(Place, Range<usize>)>,
}

impl Chunk {
    pub(super) fn lines(&self) -> impl Iterator<Item = (&Place, &[u8])> {
        let line = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        self.lines.iter().map(move |(place, range)| (place, line(range)))
    }

    fn push(&mut self, place: Place, line: &[u8]) {
        let begin = self.text.len();
        self.text.extend_from_slice(line);
        self.lines.push((place, begin..self.text.len()));
    }
}

type Source = BufReader<Box<dyn Read + Send>>;

/// Where a record comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: std::sync::Arc<str>,
    /// From 1; 0 for a whole file.
    pub(super) line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => formatter.write_str(&self.file),
            line => write!(formatter, "{}:{line}", self.file),
        }
    }
}

/// The input.
pub(super) struct Lines {
    waiting: VecDeque<PathBuf>,
    current: Option<(Source, Place)>,
    line: Vec<u8>,
    /// What went wrong behind the lines of the last chunk.
    failure: Option<Failure>,
    bytes_total: Option<u64>,
    is_interactive: bool,
    whole_files: bool,
    line_bytes_max: usize,
}

impl Lines {
    pub(super) fn open(files: &[PathBuf], whole_files: bool, line_bytes_max: usize) -> Outcome<Self> {
        let mut waiting: VecDeque<_> = files.iter().cloned().collect();
        if waiting.is_empty() {
            waiting.push_back(PathBuf::from("-"));
        }
        let reads_stdin = waiting.iter().any(|path| is_stdin(path));
        let mut bytes_total = Some(0);
        for path in &waiting {
            // Files are looked at before the first record leaves: a typing error sends nothing.
            let size = match path {
                path if is_stdin(path) => None,
                path => {
                    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
                    if metadata.is_dir() {
                        return Err(Failure::new(format!("{} is a directory", path.display())));
                    }
                    metadata.is_file().then_some(metadata.len())
                }
            };
            bytes_total = bytes_total.zip(size).map(|(total, size)| total + size);
        }
        Ok(Self {
            waiting,
            current: None,
            line: Vec::new(),
            failure: None,
            bytes_total,
            is_interactive: reads_stdin && io::stdin().is_terminal(),
            whole_files,
            line_bytes_max,
        })
    }

    /// How much there is to read, if that can be known.
    pub(super) fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// Whether a person types it.
    pub(super) fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// Fills `chunk` with the next lines; false at the end. Waits for the first of them alone.
    pub(super) fn fill(&mut self, chunk: &mut Chunk) -> Outcome<bool> {
        chunk.text.clear();
        chunk.lines.clear();
        let mut line = std::mem::take(&mut self.line);
        let mut outcome = self.failure.take().map_or(Ok(()), Err);
        while outcome.is_ok() {
            match self.next(&mut line) {
                Ok(Some(place)) => chunk.push(place, &line),
                Ok(None) => break,
                Err(failure) => outcome = Err(failure),
            }
            if CHUNK_BYTES <= chunk.text.len() || !self.has_a_line() {
                break;
            }
        }
        self.line = line;
        if chunk.lines.is_empty() {
            return outcome.map(|()| false);
        }
        self.failure = outcome.err();
        Ok(true)
    }

    /// Whether the next line was read already.
    fn has_a_line(&self) -> bool {
        let buffered = self.current.as_ref().map(|(reader, _)| reader.buffer());
        buffered.is_some_and(|buffered| buffered.contains(&b'\n'))
    }

    /// Puts the next line into `line` and returns where it stood; `None` at the end.
    fn next(&mut self, line: &mut Vec<u8>) -> Outcome<Option<Place>> {
        loop {
            let (reader, place) = match &mut self.current {
                Some(current) => current,
                None => match self.waiting.pop_front() {
                    Some(path) => self.current.insert(open(&path)?),
                    None => return Ok(None),
                },
            };
            line.clear();
            let failed = |error: &io::Error| Failure::new(format!("{}: {error}", place.file));
            if self.whole_files {
                let limit = u64::try_from(self.line_bytes_max).unwrap_or(u64::MAX);
                let read = reader.take(limit.saturating_add(1)).read_to_end(line);
                read.map_err(|error| failed(&error))?;
            } else {
                let read = read_line(reader, line, self.line_bytes_max).map_err(|error| failed(&error))?;
                if !read {
                    self.current = None;
                    continue;
                }
                place.line += 1;
            }
            let place = place.clone();
            if self.line_bytes_max < line.len() {
                let limit = Bytes(u64::try_from(self.line_bytes_max).unwrap_or(u64::MAX));
                return Err(Failure::new(format!("longer than {limit}"))
                    .during(&place)
                    .advise("allow more with --max-record-bytes, and with the topic's max.message.bytes"));
            }
            if self.whole_files {
                self.current = None;
            }
            return Ok(Some(place));
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn open(path: &Path) -> Outcome<(Source, Place)> {
    let source = |reader: Box<dyn Read + Send>| BufReader::with_capacity(BUFFER_BYTES, reader);
    if is_stdin(path) {
        let place = Place {
            file: "standard input".into(),
            line: 0,
        };
        return Ok((source(Box::new(io::stdin())), place));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let place = Place {
        file: path.display().to_string().into(),
        line: 0,
    };
    Ok((source(Box::new(file)), place))
}

/// Reads up to the next line feed, or a little more than `bytes_max`; false at the end.
fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>, bytes_max: usize) -> io::Result<bool> {
    let mut is_empty = true;
    loop {
        let buffered = match reader.fill_buf() {
            Ok(buffered) => buffered,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffered.is_empty() {
            return Ok(!is_empty);
        }
        is_empty = false;
        let end = buffered.iter().position(|byte| *byte == b'\n');
        let (part, _) = buffered.split_at(end.unwrap_or(buffered.len()));
        line.extend_from_slice(part);
        let consumed = part.len() + usize::from(end.is_some());
        reader.consume(consumed);
        if end.is_some() || bytes_max < line.len() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], bytes_max: usize) -> Vec<Vec<u8>> {
        let mut reader = BufReader::with_capacity(3, text);
        let mut lines = Vec::new();
        let mut line = Vec::new();
        while read_line(&mut reader, &mut line, bytes_max).unwrap() {
            lines.push(std::mem::take(&mut line));
        }
        lines
    }

    #[test]
    fn lines_keep_everything_but_the_line_feed() {
        for (text, expected) in [
            (&b""[..], vec![]),
            (b"\n", vec![&b""[..]]),
            (b"one", vec![b"one"]),
            (b"one\n", vec![b"one"]),
            (b"one\r\n\ntwo \xff\0", vec![b"one\r", b"", b"two \xff\0"]),
        ] {
            assert_eq!(read(text, 100), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_come_in_chunks_and_a_failure_behind_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        std::fs::write(&path, "1\n\n3\ntoo long\n").unwrap();
        let mut lines = Lines::open(&[path], false, 5).unwrap();
        let mut chunk = Chunk::default();
        assert!(lines.fill(&mut chunk).unwrap());
        let read: Vec<_> = chunk.lines().map(|(place, line)| (place.line, line)).collect();
        assert_eq!(read, [(1, &b"1"[..]), (2, b""), (3, b"3")]);
        let failure = lines.fill(&mut chunk).unwrap_err();
        assert!(failure.message.unwrap().contains("a:4: longer"));
    }

    #[test]
    fn a_chunk_ends_where_reading_would_wait() {
        let (mut typed, input) = std::os::unix::net::UnixStream::pair().unwrap();
        let place = Place {
            file: "here".into(),
            line: 0,
        };
        let mut lines = Lines::open(&[], false, 100).unwrap();
        lines.waiting.clear();
        lines.current = Some((BufReader::new(Box::new(input)), place));
        let mut chunk = Chunk::default();
        std::io::Write::write_all(&mut typed, b"one\ntwo\nunfinished").unwrap();
        assert!(lines.fill(&mut chunk).unwrap());
        assert_eq!(chunk.lines().count(), 2);
        drop(typed);
        assert!(lines.fill(&mut chunk).unwrap());
        assert_eq!(
            chunk.lines().map(|(_, line)| line).collect::<Vec<_>>(),
            [b"unfinished"]
        );
        assert!(!lines.fill(&mut chunk).unwrap());
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let pieces = read(&[b'x'; 10_000], 100);
        assert!(pieces.iter().all(|piece| piece.len() <= 104), "{}", pieces.len());
    }

    #[test]
    fn files_are_read_one_after_the_other_and_checked_first() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = [write("a", "1\n2"), write("b", ""), write("c", "3\n")];
        let mut lines = Lines::open(&files, false, 10).unwrap();
        assert_eq!(lines.bytes_total(), Some(5));
        let mut line = Vec::new();
        let mut seen = Vec::new();
        while let Some(place) = lines.next(&mut line).unwrap() {
            seen.push((String::from_utf8(line.clone()).unwrap(), place.line));
        }
        assert_eq!(seen, [("1".into(), 1), ("2".into(), 2), ("3".into(), 1)]);

        let mut whole = Lines::open(&files, true, 10).unwrap();
        let mut count = 0;
        while whole.next(&mut line).unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 3, "an empty file is a record too");

        let missing = directory.path().join("missing");
        assert!(Lines::open(&[files[0].clone(), missing], false, 10).is_err());
        assert!(Lines::open(&[directory.path().to_owned()], false, 10).is_err());
        let long = [write("d", "12345678901\n")];
        assert!(Lines::open(&long, false, 10).unwrap().next(&mut line).is_err());
    }
}
