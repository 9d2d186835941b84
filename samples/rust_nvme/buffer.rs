// SPDX-License-Identifier: GPL-2.0

//! Registered dma-bufs: mapped once, read and written many times.
//!
//! The ranges that the controller sees are copied out of the attachment when a buffer is
//! registered, joined where they touch, with the offset in the buffer at which each begins. A
//! command finds its first range by a binary search, and goes on from there; one range is found at
//! once.
//!
//! The buffer's [`Gate`] is open while it may be used. Each command is inside from when it looks
//! the buffer up to when it has ended. Whoever is about to end the mapping closes the gate first,
//! and so waits for them: that is the exporter ([`Revoke`]), whoever takes the buffer out of its
//! file's table, and the unbinding of the driver. None of them waits for ever: a command ends, or
//! times out, and then the controller is reset.

use super::{
    ctrl::PAGE_SIZE,
    desc::Range,
    uapi, //
};
use core::ptr;
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};
use phyr::{
    dma_buf::{
        Attachment,
        DmaBuf,
        Invalidate, //
    },
    DataDirection,
    DmaVec, //
};
use phyr_blk::{
    Binding,
    Gate,
    Handles, //
};

/// What the controller may do with a buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// Read it: commands that write to the namespace.
    pub(crate) read: bool,
    /// Write it: commands that read from the namespace.
    pub(crate) write: bool,
}

impl Access {
    /// # Errors
    ///
    /// [`EINVAL`]: flags that there are not, or none.
    pub(crate) fn from_flags(flags: u32) -> Result<Self> {
        if flags == 0 || flags & !(uapi::BUF_READ | uapi::BUF_WRITE) != 0 {
            return Err(EINVAL);
        }
        Ok(Self {
            read: flags & uapi::BUF_READ != 0,
            write: flags & uapi::BUF_WRITE != 0,
        })
    }

    pub(crate) fn flags(self) -> u32 {
        let mut flags = 0;
        if self.read {
            flags |= uapi::BUF_READ;
        }
        if self.write {
            flags |= uapi::BUF_WRITE;
        }
        flags
    }

    fn direction(self) -> DataDirection {
        match (self.read, self.write) {
            (true, true) => DataDirection::Bidirectional,
            (false, true) => DataDirection::FromDevice,
            _ => DataDirection::ToDevice,
        }
    }
}

/// What the exporter calls when the mapping is to end.
pub(crate) struct Revoke {
    gate: Arc<Gate>,
    binding: Arc<Binding>,
    /// The buffers of the file. It empties the table when it is closed, or neither would go.
    buffers: Arc<Handles<Buffer>>,
    buf: ARef<DmaBuf>,
}

impl Invalidate for Revoke {
    fn invalidate(&self) {
        // Closing a gate takes a grace period. The others that are next are to have the same one:
        // all if the driver is being unbound, else all registrations of this buffer.
        if !self.gate.is_closed() {
            let all = self.binding.is_over();
            self.buffers
                .shut(|other| all || ptr::eq(other.attachment.dma_buf(), &*self.buf));
        }
        // Also if the exporter only moves the buffer: it is not mapped again.
        self.gate.close();
    }
}

/// A buffer that commands can use.
pub(crate) struct Buffer {
    map: Map,
    access: Access,
    /// Dropped when nobody is inside the gate any more.
    attachment: Attachment<Revoke>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Nobody revokes it: other registrations of the same memory stay.
        self.attachment.unmap();
    }
}

impl Buffer {
    /// Maps `buf` for the controller. Returns it with its gate.
    ///
    /// Context: sleeps.
    ///
    /// # Errors
    ///
    /// Those of `RNVME_IOC_REGISTER`; see `rust_nvme.h`.
    pub(crate) fn new(
        binding: &Arc<Binding>,
        buffers: &Arc<Handles<Self>>,
        buf: ARef<DmaBuf>,
        access: Access,
        needs_pages: bool,
    ) -> Result<(Arc<Gate>, Self)> {
        let gate = Arc::pin_init(Gate::new(), GFP_KERNEL_ACCOUNT)?;
        let revoke = Revoke {
            gate: gate.clone(),
            binding: binding.clone(),
            buffers: buffers.clone(),
            buf: buf.clone(),
        };
        let revoke = Arc::new(revoke, GFP_KERNEL_ACCOUNT)?;
        // Memory of another device will do: only the controller accesses it.
        let attachment = binding.with(|dev| Attachment::dynamic(dev, buf, true, revoke))?;
        attachment.map(access.direction())?;
        let mut buffer = Self {
            map: Map::default(),
            access,
            attachment,
        };

        let mut map = Ok(Map::default());
        buffer
            .attachment
            .dma_vecs(|vec| {
                if let Ok(so_far) = &mut map {
                    if let Err(e) = so_far.push(vec) {
                        map = Err(e);
                    }
                }
            })
            // Revoked just now.
            .map_err(|e| if e == ENXIO { ENODEV } else { e })?;
        let map = map?;
        if !map.is_aligned || needs_pages && !map.is_paged {
            return Err(EOPNOTSUPP);
        }
        buffer.map = map;
        Ok((gate, buffer))
    }

    pub(crate) fn access(&self) -> Access {
        self.access
    }

    pub(crate) fn map(&self) -> &Map {
        &self.map
    }
}

/// A range of the controller's addresses, and the byte of the buffer that it begins with.
#[derive(Clone, Copy)]
struct Piece {
    start: u64,
    addr: u64,
}

/// Where the bytes of a buffer are for the controller.
///
/// # Invariants
///
/// The first of `pieces` begins with byte 0, and each with a later one than that before it. A piece
/// goes on to the start of the next one; the last, to `len`.
pub(crate) struct Map {
    pieces: KVVec<Piece>,
    len: u64,
    /// All pieces begin and end at multiples of 4 bytes: what descriptors can say.
    is_aligned: bool,
    /// Pages of the controller are whole, but for the first and the last one: what PRPs can say.
    is_paged: bool,
}

impl Default for Map {
    fn default() -> Self {
        // INVARIANT: There are no pieces.
        Self {
            pieces: KVVec::new(),
            len: 0,
            is_aligned: true,
            is_paged: true,
        }
    }
}

/// A part of a buffer, by the pieces that it is in.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    offset: u64,
    len: u32,
    /// The piece that it begins in, and how many it is in.
    first: u32,
    count: u32,
}

impl Span {
    pub(crate) fn len(self) -> u32 {
        self.len
    }

    /// How many ranges it has.
    pub(crate) fn count(self) -> u32 {
        self.count
    }
}

impl Map {
    /// Adds what comes next.
    fn push(&mut self, vec: DmaVec) -> Result {
        // CAST: A length fits in 64 bits.
        let (addr, len) = (vec.addr().into_raw(), vec.len() as u64);
        if len == 0 {
            return Ok(());
        }
        self.is_aligned &= (addr | len) % 4 == 0;
        match self.pieces.last() {
            // CAST: Likewise.
            Some(last) if last.addr.checked_add(self.len - last.start) == Some(addr) => {}
            last => {
                let page = PAGE_SIZE as u64;
                let end = last.map_or(0, |last| last.addr.wrapping_add(self.len - last.start));
                self.is_paged &= last.is_none() || (end | addr) % page == 0;
                let start = self.len;
                // INVARIANT: The one before has a length, so that this begins later.
                self.pieces
                    .push(Piece { start, addr }, GFP_KERNEL_ACCOUNT)?;
            }
        }
        self.len = self.len.checked_add(len).ok_or(EOVERFLOW)?;
        Ok(())
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// How many ranges there are.
    pub(crate) fn count(&self) -> usize {
        self.pieces.len()
    }

    /// The first byte that is not behind the one before it, unless it is linear.
    pub(crate) fn gap(&self) -> Option<u64> {
        self.pieces.get(1).map(|piece| piece.start)
    }

    /// Whether PRPs can describe any part of it.
    pub(crate) fn is_paged(&self) -> bool {
        self.is_paged
    }

    /// The index of the piece that `offset` is in; it is less than `self.len`.
    fn find(&self, offset: u64) -> usize {
        match &self.pieces[..] {
            [_] => 0,
            pieces => pieces
                .partition_point(|piece| piece.start <= offset)
                .saturating_sub(1),
        }
    }

    /// The part of `len` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`ERANGE`]: it is empty, or not all in the buffer.
    pub(crate) fn span(&self, offset: u64, len: u32) -> Result<Span> {
        let end = offset.checked_add(len.into()).ok_or(ERANGE)?;
        if len == 0 || end > self.len {
            return Err(ERANGE);
        }
        let (first, last) = (self.find(offset), self.find(end - 1));
        Ok(Span {
            offset,
            len,
            first: u32::try_from(first).map_err(|_| ERANGE)?,
            // CAST: No more than the bytes are, which are 32 bits.
            count: (last - first) as u32 + 1,
        })
    }

    /// The ranges of `span`, which is of this map.
    pub(crate) fn ranges(&self, span: Span) -> Ranges<'_> {
        // CAST: An index has 32 bits or more.
        let pieces = self.pieces.get(span.first as usize..).unwrap_or(&[]);
        Ranges {
            pieces: pieces.iter(),
            at: span.offset,
            end: span.offset + u64::from(span.len),
            len: self.len,
        }
    }
}

/// Iterates over the ranges of a [`Span`].
#[derive(Clone)]
pub(crate) struct Ranges<'a> {
    pieces: core::slice::Iter<'a, Piece>,
    at: u64,
    end: u64,
    /// Where the last piece ends.
    len: u64,
}

impl Iterator for Ranges<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        if self.at >= self.end {
            return None;
        }
        let piece = self.pieces.next()?;
        let next = self.pieces.as_slice().first();
        let stop = next.map_or(self.len, |next| next.start).min(self.end);
        let range = Range {
            addr: piece.addr.wrapping_add(self.at - piece.start),
            len: stop - self.at,
        };
        self.at = stop;
        Some(range)
    }
}

/// Edges, then random maps against a list of all bytes.
#[kunit_tests(rust_nvme_buffer)]
mod tests {
    // PANIC: An `unwrap` or an index that fails is a failed test.
    // CAST: All are small numbers.

    use super::{
        super::tests::Random,
        *, //
    };
    use phyr::DmaAddr;

    fn map(of: &[(u64, usize)]) -> Map {
        let mut map = Map::default();
        for &(addr, len) in of {
            map.push(DmaVec::new(DmaAddr::from_raw(addr), len)).unwrap();
        }
        map
    }

    fn ranges(map: &Map, offset: u64, len: u32) -> KVec<(u64, u64)> {
        let span = map.span(offset, len).unwrap();
        let mut out = KVec::new();
        for range in map.ranges(span) {
            out.push((range.addr, range.len), GFP_KERNEL).unwrap();
        }
        assert_eq!(out.len(), span.count() as usize);
        out
    }

    #[test]
    fn what_touches_is_one_piece() {
        for (of, count, paged) in [
            (&[(0x1000, 4096)][..], 1, true),
            (&[(0x1004, 512)], 1, true),
            (&[(0x1000, 4096), (0x2000, 8192)], 1, true),
            (&[(0x1000, 512), (0x1200, 512)], 1, true),
            (&[(0x1000, 4096), (0x3000, 4096)], 2, true),
            (&[(0x1800, 2048), (0x3000, 100)], 2, true),
            (&[(0x1000, 4096), (0x3004, 4096)], 2, false),
            (&[(0x1000, 2048), (0x3000, 4096)], 2, false),
            (&[(0x2000, 4096), (0x1000, 4096)], 2, true),
        ] {
            let map = map(of);
            assert_eq!(map.count(), count);
            assert_eq!(map.gap().is_some(), count > 1);
            assert_eq!(map.is_paged, paged);
            assert!(map.is_aligned);
        }
        assert!(!map(&[(0x1002, 4096)]).is_aligned);
        assert!(!map(&[(0x1000, 4095)]).is_aligned);
    }

    #[test]
    fn spans_end_with_the_buffer() {
        let map = map(&[(0x1000, 4096), (0x3000, 4096)]);
        for (offset, len, fits) in [
            (0, 8192, true),
            (0, 8193, false),
            (8191, 1, true),
            (8192, 0, false),
            (8192, 1, false),
            (0, 0, false),
            (4096, 4096, true),
            (4097, 4096, false),
            (u64::MAX, 1, false),
            (u64::MAX - 511, 512, false),
            (0, u32::MAX, false),
        ] {
            assert_eq!(map.span(offset, len).is_ok(), fits);
        }
        assert_eq!(ranges(&map, 4092, 8)[..], [(0x1ffc, 4), (0x3000, 4)]);
        assert_eq!(ranges(&map, 4096, 4)[..], [(0x3000, 4)]);
        assert_eq!(ranges(&map, 0, 4096)[..], [(0x1000, 4096)]);
    }

    #[test]
    fn random_parts_are_where_their_bytes_are() {
        let mut random = Random::new(29);
        for _ in 0..50 {
            let mut of: KVec<(u64, usize)> = KVec::new();
            let mut bytes: KVec<u64> = KVec::new();
            for _ in 0..=random.below(20) {
                let (addr, len) = (4 * random.below(1 << 20), 4 * (1 + random.below(40)));
                of.push((addr, len as usize), GFP_KERNEL).unwrap();
                for byte in 0..len {
                    bytes.push(addr + byte, GFP_KERNEL).unwrap();
                }
            }
            let map = map(&of);
            assert_eq!(map.len(), bytes.len() as u64);
            for _ in 0..50 {
                let offset = random.below(map.len());
                let len = 1 + random.below(map.len() - offset);
                let mut at = offset as usize;
                for (addr, len) in ranges(&map, offset, len as u32) {
                    for byte in 0..len {
                        assert_eq!(bytes[at], addr + byte);
                        at += 1;
                    }
                }
                assert_eq!(at as u64, offset + len);
            }
        }
    }
}
