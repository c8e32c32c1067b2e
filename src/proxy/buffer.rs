//! Byte buffers that a worker lends to connections only while they hold something.
//!
//! An idle connection holds an empty [`Buffer`], which owns no memory; the first read borrows a block from the
//! worker, and dropping or emptying the buffer gives it back.

use std::cell::RefCell;
use std::io;

use super::stream::Stream;

/// Size of a block: larger than nearly every head, small enough to stay in cache.
pub const BLOCK: usize = 16 * 1024;

// Blocks kept by a worker: beyond that, memory goes back to the allocator, so that a burst leaves no trace.
const KEPT: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

fn borrow_block() -> Box<[u8]> {
    FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BLOCK].into())
}

fn give_back(block: Box<[u8]>) {
    if block.len() == BLOCK {
        FREE.with_borrow_mut(|free| {
            if free.len() < KEPT {
                free.push(block);
            }
        });
    }
}

/// Bytes between `start` and `end` of a borrowed block; grows beyond a block only when asked to.
#[derive(Debug, Default)]
pub struct Buffer {
    block: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// A copy of `bytes` in memory of just that size: for what is kept while others need the block.
    #[must_use]
    pub fn exact(bytes: &[u8]) -> Self {
        Self { block: bytes.into(), start: 0, end: bytes.len() }
    }

    /// The bytes it holds.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.block[self.start..self.end]
    }

    /// The bytes it holds, to be changed in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.block[self.start..self.end]
    }

    /// How many bytes it holds.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether it holds none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes `n` bytes away from the front; an emptied buffer starts at its front again.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Gives the block back if there is nothing in it.
    pub fn shrink(&mut self) {
        if self.is_empty() && !self.block.is_empty() {
            give_back(std::mem::take(&mut self.block));
        }
    }

    /// Makes room for at least one more byte, keeping at most `max` bytes in all. False when `max` are held already.
    pub fn make_room(&mut self, max: usize) -> bool {
        if self.block.is_empty() {
            self.block = borrow_block();
        }
        if self.end < self.block.len() {
            return self.len() < max;
        }
        if self.start > 0 {
            self.block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            return self.len() < max;
        }
        if self.block.len() >= max {
            return false;
        }
        let mut larger = vec![0; (self.block.len() * 2).min(max)].into_boxed_slice();
        larger[..self.end].copy_from_slice(&self.block[..self.end]);
        give_back(std::mem::replace(&mut self.block, larger));
        true
    }

    /// Appends bytes, growing as needed: for heads of our own, whose size is bounded by what they are made of.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        if self.block.len() - self.end < bytes.len() {
            self.reserve(bytes.len());
        }
        self.block[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    #[cold]
    fn reserve(&mut self, more: usize) {
        if self.block.is_empty() && more <= BLOCK {
            self.block = borrow_block();
            return;
        }
        let size = (self.end + more).next_power_of_two().max(BLOCK);
        let mut larger = vec![0; size].into_boxed_slice();
        larger[..self.end].copy_from_slice(&self.block[..self.end]);
        give_back(std::mem::replace(&mut self.block, larger));
    }

    /// Reads once from `stream` behind what is held; 0 is its end.
    ///
    /// # Errors
    /// As the socket; `WouldBlock` when nothing is there. [`Buffer::make_room`] must have made room.
    pub fn read_from(&mut self, stream: &Stream) -> io::Result<usize> {
        let room = &mut self.block[self.end..];
        debug_assert!(!room.is_empty(), "no room to read into");
        let n = stream.try_read(room)?;
        self.end += n;
        Ok(n)
    }

    /// Writes once to `stream` from the front and takes away what was written.
    ///
    /// # Errors
    /// As the socket; `WouldBlock` when it takes nothing.
    pub fn write_to(&mut self, stream: &Stream) -> io::Result<usize> {
        let n = stream.try_write(self.bytes())?;
        self.consume(n);
        Ok(n)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.block.is_empty() {
            give_back(std::mem::take(&mut self.block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_owns_no_memory() {
        let mut buffer = Buffer::default();
        buffer.put(b"hello");
        buffer.consume(5);
        buffer.shrink();
        assert_eq!(buffer.block.len(), 0);
    }

    #[test]
    fn room_is_made_up_to_the_limit_and_no_further() {
        let mut buffer = Buffer::default();
        assert!(buffer.make_room(2 * BLOCK));
        buffer.put(&[1; BLOCK]);
        assert!(buffer.make_room(2 * BLOCK), "grows");
        buffer.put(&[2; BLOCK]);
        assert!(!buffer.make_room(2 * BLOCK), "full");
        buffer.consume(10);
        assert!(buffer.make_room(2 * BLOCK), "moves down");
        assert_eq!(buffer.len(), 2 * BLOCK - 10);
        assert_eq!(buffer.bytes().first(), Some(&1));
    }
}
