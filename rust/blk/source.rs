// SPDX-License-Identifier: GPL-2.0

//! Source: a block request.
//!
//! All the bios of a request, or its special payload, with multi-page bio_vecs and an iterator that
//! may have been advanced in part; joined and cut by the limits of its queue. The virt boundary of
//! the queue needs no work here: the block layer has split the bios at every gap that it forbids.
//!
//! C: `blk_rq_map_iter_init()` in [`block/blk-mq-dma.c`](srctree/block/blk-mq-dma.c).

use core::num::NonZeroUsize;
use kernel::{
    bindings,
    prelude::*, //
};
use phyr::{
    source::{
        page::page_piece,
        Segments,
        Source, //
    },
    Granule,
    Limits,
    Phyr, //
};

/// `RQF_SPECIAL_PAYLOAD`
const SPECIAL_PAYLOAD: u32 = 1 << bindings::rqf_flags___RQF_SPECIAL_PAYLOAD;

/// Returns the flags of a started request.
///
/// blk-mq sets `RQF_TIMED_OUT` of it on another CPU when its time is over, by a plain write: it is
/// read once, and whole, as by `READ_ONCE()`.
///
/// # Safety
///
/// `rq` is valid for reads.
#[inline(always)]
pub(crate) unsafe fn rq_flags(rq: *const bindings::request) -> u32 {
    // SAFETY: `rq` is valid for reads. Others may write the flags; any value does.
    unsafe { (&raw const (*rq).rq_flags).read_volatile() }
}

/// Memory of a block request: the remainder of all its bios, or its special payload.
///
/// # Invariants
///
/// The holder of this, or of an iterator of it, owns the started request.
#[derive(Clone)]
pub(crate) struct RequestMemory(*const bindings::request);

/// Iterator over the pieces of a block request, one for each bio_vec.
///
/// # Invariants
///
/// - `bio` is null or a bio of a request that the holder of this owns.
/// - Unless `size` is zero, `vecs` is the bio_vec array that `size`, `idx` and `done` are the
///   remainder of.
#[derive(Clone)]
pub(crate) struct RequestPieces {
    bio: *const bindings::bio,
    vecs: *const bindings::bio_vec,
    /// Bytes left in this bio.
    size: u32,
    /// The bio_vec to read next.
    idx: u32,
    /// Bytes of it that were taken.
    done: u32,
}

impl RequestPieces {
    /// Makes an iterator that begins at the first byte of the request that is not completed.
    #[inline]
    fn new(RequestMemory(rq): &RequestMemory) -> Self {
        let rq = *rq;
        // SAFETY: by the invariant of `RequestMemory` the request is valid, and nobody else changes
        // it.
        let (flags, bio) = unsafe { (rq_flags(rq), (*rq).bio) };

        if flags & SPECIAL_PAYLOAD != 0 {
            // SAFETY: with this flag, this member of the union is the one in use.
            let vec = unsafe { &raw const (*rq).__bindgen_anon_3.special_vec };
            // INVARIANT: the array is the one vector, whole.
            return Self {
                bio: core::ptr::null(),
                vecs: vec,
                // SAFETY: the vector is a member of the request.
                size: unsafe { (*vec).bv_len },
                idx: 0,
                done: 0,
            };
        }
        // INVARIANT: nothing is left of no bio.
        let mut pieces = Self {
            bio,
            vecs: core::ptr::null(),
            size: 0,
            idx: 0,
            done: 0,
        };
        // A flush has no bio.
        if !bio.is_null() {
            // SAFETY: `bio` is a bio of the request.
            unsafe { pieces.enter(bio) };
        }
        pieces
    }

    /// Turns to `bio`.
    ///
    /// # Safety
    ///
    /// `bio` is a bio of the request.
    #[inline]
    unsafe fn enter(&mut self, bio: *const bindings::bio) {
        // SAFETY: the caller promises that it is a bio of the request.
        let (iter, vecs) = unsafe { ((*bio).bi_iter, (*bio).bi_io_vec) };

        // INVARIANT: the iterator of a bio is the remainder of its array.
        *self = Self {
            bio,
            vecs,
            size: iter.bi_size,
            idx: iter.bi_idx,
            done: iter.bi_offset,
        };
    }

    /// Takes the next bio_vec of this bio: its page, and the offset and length of its remainder,
    /// which may be empty.
    #[inline(always)]
    fn advance(&mut self) -> Option<BioVec> {
        if self.size == 0 {
            return None;
        }
        // SAFETY: by the type invariant something is left of the array, so that this element is in
        // it.
        // CAST: a `usize` has at least 32 bits.
        let vec = unsafe { *self.vecs.add(self.idx as usize) };
        let len = (vec.bv_len - self.done).min(self.size);
        let piece = (vec.bv_page.cast_const(), vec.bv_offset + self.done, len);

        // INVARIANT: this is how `bvec_iter_advance()` goes on at the end of a bio_vec.
        self.size -= len;
        self.idx += 1;
        self.done = 0;
        Some(piece)
    }

    /// Turns to the next bio, if there is one.
    #[inline]
    fn next_bio(&mut self) -> bool {
        if self.bio.is_null() {
            return false;
        }
        // SAFETY: by the type invariant the bio is one of the request.
        let next = unsafe { (*self.bio).bi_next };
        if next.is_null() {
            return false;
        }
        // SAFETY: the bios of a request are linked by this member.
        unsafe { self.enter(next) };
        true
    }

    /// Returns the piece of a bio_vec as a phyr.
    ///
    /// # Safety
    ///
    /// It is the remainder of a bio_vec of the request, or a part of it, and the caller owns the
    /// request.
    #[inline(always)]
    unsafe fn piece((page, offset, len): BioVec) -> Result<Phyr> {
        // SAFETY: a bio_vec names a valid page and as many bytes of it, and of the pages after it,
        // as it holds.
        // CAST: a `usize` has at least 32 bits.
        unsafe { page_piece(page, u64::from(offset), len as usize) }
    }
}

/// A page, and an offset and a length in it and the pages after it.
type BioVec = (*const bindings::page, u32, u32);

impl Iterator for RequestPieces {
    type Item = Result<Phyr>;

    // Inlined into `Segments`, which is.
    #[inline(always)]
    fn next(&mut self) -> Option<Result<Phyr>> {
        loop {
            match self.advance() {
                Some((_, _, 0)) => {}
                // SAFETY: the piece was just taken from a bio_vec of the request.
                Some(vec) => return Some(unsafe { Self::piece(vec) }),
                None if self.next_bio() => {}
                None => return None,
            }
        }
    }
}

impl RequestMemory {
    /// Makes a source of the memory of `rq`.
    ///
    /// # Safety
    ///
    /// The caller owns the started request `rq` for as long as this, or an iterator of it, is used.
    #[inline]
    pub(crate) unsafe fn new(rq: *const bindings::request) -> Self {
        // INVARIANT: the caller promises to own `rq`.
        Self(rq)
    }

    /// Returns the limits of the queue of the request.
    #[inline]
    fn limits(&self) -> Limits {
        // SAFETY: by the type invariant the request is valid, and so is its queue. The two limits
        // that are read do not change once it has a disk.
        let limits = unsafe { &raw const (*(*self.0).q).limits };
        // SAFETY: the limits are a member of the queue.
        let (max, mask) = unsafe { ((*limits).max_segment_size, (*limits).seg_boundary_mask) };
        Limits::of_queue(max, mask)
    }

    /// Returns the number of bio_vecs, for the tracepoint.
    pub(crate) fn count_bio_vecs(&self) -> u32 {
        // CAST: the bio_vecs of a request are counted in 16 bits.
        RequestPieces::new(self).count() as u32
    }
}

impl Source for RequestMemory {
    type Phyrs = Segments<RequestPieces>;
    type Pieces = RequestPieces;

    #[inline]
    fn phyrs(&self) -> Self::Phyrs {
        Segments::new(RequestPieces::new(self), self.limits())
    }

    /// Returns the request's phyr if it has exactly one. May return `None` for a single phyr, never
    /// the reverse.
    ///
    /// The block layer has counted one segment, by the limits of the queue, and all bytes are in
    /// one bio_vec: `req_bvec()` in [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h).
    #[inline]
    fn only(&self) -> Option<Result<Phyr>> {
        let rq = self.0;
        // SAFETY: by the type invariant the request is valid.
        let (flags, segments, bio) = unsafe { (rq_flags(rq), (*rq).nr_phys_segments, (*rq).bio) };
        let is_special = flags & SPECIAL_PAYLOAD != 0;
        if segments != 1 || is_special || bio.is_null() {
            return None;
        }
        // SAFETY: a bio of the request is valid.
        let (iter, vecs, len) = unsafe { ((*bio).bi_iter, (*bio).bi_io_vec, (*rq).__data_len) };
        if len == 0 || iter.bi_size != len {
            return None;
        }
        // SAFETY: something is left of the array, so that this element is in it.
        // CAST: a `usize` has at least 32 bits.
        let vec = unsafe { *vecs.add(iter.bi_idx as usize) };
        if vec.bv_len - iter.bi_offset < len {
            return None;
        }
        let vec = (
            vec.bv_page.cast_const(),
            vec.bv_offset + iter.bi_offset,
            len,
        );
        // SAFETY: the piece is of a bio_vec of the request, and not more than its remainder.
        Some(unsafe { RequestPieces::piece(vec) })
    }

    #[inline]
    fn pieces(&self, limits: &Limits) -> Option<RequestPieces> {
        // SAFETY: by the type invariant the request is valid.
        let (flags, len) = unsafe { (rq_flags(self.0), (*self.0).__data_len) };
        // CAST: a `usize` has at least 32 bits.
        let len = len as usize;
        // The length of a special payload is not the request's.
        if flags & SPECIAL_PAYLOAD != 0 {
            return None;
        }
        if !self.limits().allow_anywhere(len) || !limits.allow_anywhere(len) {
            return None;
        }
        Some(RequestPieces::new(self))
    }

    /// Returns the length, if the block layer found no gap at which an IOMMU with this granule
    /// could not join: `blk_can_dma_map_iova()` in
    /// [`block/blk-mq-dma.c`](srctree/block/blk-mq-dma.c).
    #[inline]
    fn run_len(&self, granule: Granule) -> Option<NonZeroUsize> {
        // SAFETY: by the type invariant the request is valid.
        let (flags, gap, len) = unsafe {
            (
                rq_flags(self.0),
                (*self.0).phys_gap_bit,
                (*self.0).__data_len,
            )
        };
        let is_special = flags & SPECIAL_PAYLOAD != 0;
        // One more than the number of the lowest bit that is set in an edge; zero for none.
        let edge = 1u64.checked_shl(gap.into())? >> 1;
        if is_special || (edge != 0 && edge < granule.size()) {
            return None;
        }
        // CAST: a `usize` has at least 32 bits.
        NonZeroUsize::new(len as usize)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(phyr_blk_source)]
mod tests {
    use super::*;
    use core::ptr;
    use kernel::{
        page::Page,
        types::Opaque, //
    };
    use phyr::bindings::phyr_helper_page_to_phys;

    /// A request of two bios with two bio_vecs each, in four pages of memory; the members that this
    /// file reads are set.
    struct Fake {
        rq: bindings::request,
        queue: KBox<Opaque<bindings::request_queue>>,
        bios: [bindings::bio; 2],
        vecs: [bindings::bio_vec; 4],
        pages: [Page; 4],
    }

    impl Fake {
        /// The bio_vecs are `(offset, length)` in the four pages.
        fn new(vecs: [(u32, u32); 4]) -> Result<KBox<Self>> {
            let page = || Page::alloc_page(GFP_KERNEL);
            let mut this = KBox::new(
                Self {
                    rq: pin_init::zeroed(),
                    queue: KBox::zeroed(GFP_KERNEL)?,
                    bios: pin_init::zeroed(),
                    vecs: pin_init::zeroed(),
                    pages: [page()?, page()?, page()?, page()?],
                },
                GFP_KERNEL,
            )?;
            let queue = this.queue.get();
            // SAFETY: the queue is this test's own memory.
            unsafe {
                (*queue).limits.max_segment_size = u32::MAX;
                (*queue).limits.seg_boundary_mask = usize::MAX;
            }
            for (nr, (offset, len)) in vecs.into_iter().enumerate() {
                this.vecs[nr] = bindings::bio_vec {
                    bv_page: this.pages[nr].as_ptr(),
                    bv_len: len,
                    bv_offset: offset,
                };
                this.bios[nr / 2].bi_iter.bi_size += len;
            }
            this.bios[0].bi_io_vec = &raw mut this.vecs[0];
            this.bios[1].bi_io_vec = &raw mut this.vecs[2];
            this.bios[0].bi_next = &raw mut this.bios[1];
            this.rq.bio = &raw mut this.bios[0];
            this.rq.q = queue;
            Ok(this)
        }

        fn memory(&self) -> RequestMemory {
            // SAFETY: the request is this test's own, and its members that are read are valid.
            unsafe { RequestMemory::new(&self.rq) }
        }

        /// Returns the phyrs as `(page, offset in it, length)`.
        fn phyrs<const N: usize>(&self) -> Option<[(usize, u64, usize); N]> {
            let mut phyrs = self.memory().phyrs();
            let mut out = [(0, 0, 0); N];
            for out in &mut out {
                let phyr = phyrs.next()?.ok()?;
                let addr = phyr.paddr().into_raw();
                let (nr, start) = self.pages.iter().enumerate().find_map(|(nr, page)| {
                    // SAFETY: the page is valid.
                    let start = unsafe { phyr_helper_page_to_phys(page.as_ptr()) };
                    (start..start + 4096).contains(&addr).then_some((nr, start))
                })?;
                *out = (nr, addr - start, phyr.len());
            }
            phyrs.next().is_none().then_some(out)
        }

        fn bio_vecs(&self) -> u32 {
            self.memory().count_bio_vecs()
        }
    }

    /// Lengths that never touch the next page, so that nothing joins by chance.
    const VECS: [(u32, u32); 4] = [(0, 512), (512, 1024), (0, 2048), (1024, 512)];

    #[test]
    fn all_bios_of_a_request() {
        let fake = Fake::new(VECS);
        let all = [(0, 0, 512), (1, 512, 1024), (2, 0, 2048), (3, 1024, 512)];
        assert_eq!(fake.as_ref().ok().and_then(|fake| fake.phyrs()), Some(all));
        assert_eq!(fake.map(|fake| fake.bio_vecs()), Ok(4));
    }

    #[test]
    fn a_partly_advanced_iterator() {
        let mut left = None;
        if let Ok(mut fake) = Fake::new(VECS) {
            // The first bio has one bio_vec and half of the second after it.
            fake.bios[0].bi_iter.bi_idx = 1;
            fake.bios[0].bi_iter.bi_offset = 512;
            fake.bios[0].bi_iter.bi_size = 512;
            left = fake.phyrs();
        }
        assert_eq!(left, Some([(1, 1024, 512), (2, 0, 2048), (3, 1024, 512)]));
    }

    #[test]
    fn an_iterator_that_ends_early() {
        let mut left = None;
        if let Ok(mut fake) = Fake::new(VECS) {
            fake.bios[1].bi_iter.bi_size = 100;
            fake.bios[0].bi_iter.bi_size = 512 + 7;
            left = fake.phyrs();
        }
        assert_eq!(left, Some([(0, 0, 512), (1, 512, 7), (2, 0, 100)]));
    }

    #[test]
    fn neighbours_join_across_bios() {
        let mut joined = None;
        if let Ok(mut fake) = Fake::new(VECS) {
            // All in the first page, one after the other.
            let page = fake.pages[0].as_ptr();
            for (nr, vec) in fake.vecs.iter_mut().enumerate() {
                vec.bv_page = page;
                vec.bv_len = 512;
                // CAST: at most 4.
                vec.bv_offset = 512 * nr as u32;
            }
            fake.bios[0].bi_iter.bi_size = 1024;
            fake.bios[1].bi_iter.bi_size = 1024;
            joined = fake.phyrs();
        }
        assert_eq!(joined, Some([(0, 0, 2048)]));
    }

    #[test]
    fn the_limits_of_the_queue_cut() {
        let mut cut = None;
        if let Ok(mut fake) = Fake::new(VECS) {
            fake.rq.bio = &raw mut fake.bios[1];
            // SAFETY: the queue is this test's own memory.
            unsafe { (*fake.queue.get()).limits.max_segment_size = 1536 };
            cut = fake.phyrs();
        }
        assert_eq!(cut, Some([(2, 0, 1536), (2, 1536, 512), (3, 1024, 512)]));
    }

    /// The first of them as the only one, and the length if it is known to join.
    fn short(fake: &Fake, granule: u64) -> (Option<usize>, Option<usize>) {
        let only = fake.memory().only();
        let granule = Granule::new(granule).unwrap_or(Granule::ONE);
        let joined = fake.memory().run_len(granule);
        (
            only.and_then(|phyr| Some(phyr.ok()?.len())),
            joined.map(NonZeroUsize::get),
        )
    }

    #[test]
    fn one_piece_is_told_at_once() {
        let mut all = None;
        if let Ok(mut fake) = Fake::new(VECS) {
            let only = |fake: &Fake| short(fake, 4096).0;
            fake.rq.nr_phys_segments = 1;
            // Of two bios; of one with two bio_vecs; of one of these, whole or in part.
            fake.rq.__data_len = 4096;
            let several = only(&fake);
            fake.rq.bio = &raw mut fake.bios[1];
            fake.rq.__data_len = fake.bios[1].bi_iter.bi_size;
            let two = only(&fake);
            fake.bios[1].bi_iter.bi_size = 2048;
            fake.rq.__data_len = 2048;
            let whole = only(&fake);
            fake.bios[1].bi_iter.bi_offset = 1;
            let beyond = only(&fake);
            fake.bios[1].bi_iter.bi_size = 100;
            fake.rq.__data_len = 100;
            let part = only(&fake);
            fake.rq.nr_phys_segments = 2;
            all = Some([several, two, whole, beyond, part, only(&fake)]);
        }
        assert_eq!(all, Some([None, None, Some(2048), None, Some(100), None]));
    }

    #[test]
    fn what_the_block_layer_knows_to_join() {
        let mut all = None;
        if let Ok(mut fake) = Fake::new(VECS) {
            fake.rq.__data_len = 4096;
            let mut len = |gap, granule| {
                fake.rq.phys_gap_bit = gap;
                short(&fake, granule).1
            };
            // No gap; one at bit 11, at 12, at 16; nonsense.
            all = Some([
                len(0, 4096),
                len(12, 4096),
                len(13, 4096),
                len(13, 65536),
                len(17, 65536),
                len(200, 4096),
            ]);
        }
        let (yes, no) = (Some(4096), None);
        assert_eq!(all, Some([yes, no, yes, no, yes, no]));
    }

    #[test]
    fn a_special_payload_instead_of_the_bios() {
        let mut special = None;
        if let Ok(mut fake) = Fake::new(VECS) {
            fake.rq.rq_flags = SPECIAL_PAYLOAD;
            fake.rq.__bindgen_anon_3.special_vec = fake.vecs[1];
            special = fake.phyrs();
            // Its length says nothing of the limits.
            assert!(fake.memory().pieces(&Limits::NONE).is_none());
            fake.rq.rq_flags = 0;
            assert!(fake.memory().pieces(&Limits::NONE).is_some());
        }
        assert_eq!(special, Some([(1, 512, 1024)]));
    }

    #[test]
    fn a_flush_has_nothing() {
        let mut none = None;
        if let Ok(mut fake) = Fake::new(VECS) {
            fake.rq.bio = ptr::null_mut();
            none = fake.phyrs();
        }
        assert_eq!(none, Some([]));
    }
}
