//! What the fixed-width entries of the indexes have in common: fields, relative offsets, the preallocated tail.
//! What an entry means is the business of each index.

use super::error::{IndexError, IndexFile};
use crate::model::{FilePosition, Offset};

/// Takes the next field off an entry.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (field, behind) = rest.split_first_chunk().expect("an entry holds its fields");
    *rest = behind;
    *field
}

/// The byte position of the entry with this number.
pub(super) fn entry_position(slot: usize, entry_size: usize) -> FilePosition {
    let position = slot
        .checked_mul(entry_size)
        .and_then(|position| u64::try_from(position).ok());
    FilePosition::new(position.expect("an entry in memory has a position"))
}

/// Refuses a field that is smaller than it can be.
pub(super) fn check_at_least(
    (file, position): (IndexFile, FilePosition),
    field: &'static str,
    at_least: i64,
    found: i64,
) -> Result<(), IndexError> {
    if at_least <= found {
        Ok(())
    } else {
        Err(IndexError::TooSmall {
            file,
            position,
            field,
            at_least,
            found,
        })
    }
}

/// The offset as it is stored: its distance from the segment's base offset, if 31 bits hold it.
pub(super) fn relative(offset: Offset, base_offset: Offset) -> Option<i32> {
    let distance = offset.get().checked_sub(base_offset.get())?;
    i32::try_from(distance).ok().filter(|&distance| 0 <= distance)
}

/// The offset that is stored as this distance. The base offset is the name of a file, which could be any
/// number: the sum is held within the range of an offset.
pub(super) fn absolute(relative: i32, base_offset: Offset) -> Offset {
    Offset::new(base_offset.get().saturating_add(i64::from(relative)))
}

/// How many of these entries are written: an unclean stop of Kafka leaves a preallocated tail of zeros.
///
/// Neither index can hold a zero entry but as its first, because offsets and timestamps grow. A file of one
/// zero entry is that first entry; a longer file of nothing but zeros was never written.
pub(super) fn written_count<const N: usize>(entries: &[[u8; N]]) -> usize {
    let last_written = entries.iter().rposition(|entry| entry != &[0; N]);
    match (last_written, entries.len()) {
        (Some(slot), _) => slot.saturating_add(1),
        (None, 1) => 1,
        (None, _) => 0,
    }
}
