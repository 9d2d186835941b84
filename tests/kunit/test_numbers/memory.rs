// SPDX-License-Identifier: GPL-2.0

//! Lengths, offsets and orders of memory.

use crate::{
    check::Outcome,
    test_numbers::values::{
        flags,
        is_much,
        numbers,
        one_of,
        DIR,
        LIST, //
    }, //
};
use core::iter;
use kernel::{
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*, //
};
use phyr::{
    memory::{
        Chunks,
        Memory,
        PageMemory,
        Pages, //
    },
    DataDirection,
    Mapper, //
};

pub(crate) fn pages() -> Outcome {
    for len in numbers(LIST / size_of::<Page>() * PAGE_SIZE) {
        if is_much(len) {
            continue;
        }
        let pages = Pages::zeroed(len, GFP_KERNEL);
        if let Some(pages) = one_of(len, pages, &[EINVAL, ENOMEM])? {
            check_eq!(pages.len(), len);
        }
    }
    for offset in numbers(PAGE_SIZE) {
        for len in numbers(2 * PAGE_SIZE) {
            let mut two = KVVec::new();
            for _ in 0..2 {
                let page = Page::alloc_page(GFP_KERNEL)?;
                two.push(page, GFP_KERNEL)?;
            }
            let fits = offset < PAGE_SIZE
                && len != 0
                && offset
                    .checked_add(len)
                    .is_some_and(|end| end > PAGE_SIZE && end <= 2 * PAGE_SIZE);
            match Pages::new(two, offset, len) {
                Ok(pages) if fits => touch(pages)?,
                other => {
                    check!(!fits, "{len} at {offset:#x}");
                    check_err!(other, EINVAL);
                }
            }
        }
    }
    for (nr, flags) in flags().into_iter().enumerate() {
        let pages = Pages::zeroed(3 * PAGE_SIZE, flags);
        one_of(nr, pages, &[ENOMEM])?;
    }
    Ok(())
}

/// Reads and writes at every offset to try.
fn touch<M: Memory>(mut memory: M) -> Outcome {
    let all = memory.len();
    for offset in numbers(all) {
        for len in [0, 1, 2, 16] {
            let mut bytes = [1; 16];
            let bytes = &mut bytes[..len];
            let fits = offset.checked_add(len).is_some_and(|end| end <= all);
            let read = memory.read(offset, bytes);
            let written = memory.write(offset, bytes);
            let expected = if fits { Ok(()) } else { Err(EINVAL) };
            check_eq!(read, expected, "{len} at {offset:#x} of {all}");
            check_eq!(written, expected, "{len} at {offset:#x} of {all}");
        }
    }
    Ok(())
}

pub(crate) fn chunks() -> Outcome {
    let all = [0, 1, 31, 32, 33, 63, 64, 1 << 31, u32::MAX];
    let around = Chunks::MAX_ORDER - 1..=Chunks::MAX_ORDER + 2;
    for order in Iterator::chain(all.into_iter(), around) {
        let page = PAGE_SIZE;
        for len in Iterator::chain(numbers(LIST / size_of::<usize>() * page), [page, 3 * page]) {
            if is_much(len) {
                continue;
            }
            let right = len != 0 && len % PAGE_SIZE == 0 && order <= Chunks::MAX_ORDER;
            let errors: &[Error] = if right { &[ENOMEM] } else { &[EINVAL, ENOMEM] };
            for chunks in [
                Chunks::zeroed(len, order, GFP_KERNEL | __GFP_NOWARN),
                Chunks::for_user(len, order),
            ] {
                let chunks = one_of(len, chunks, errors)?;
                let Some(chunks) = chunks else { continue };
                check!(right, "{len} bytes of order {order}");
                if len == 3 * page && order == 1 {
                    parts(chunks)?;
                }
            }
        }
    }
    for (nr, flags) in flags().into_iter().enumerate() {
        let chunks = Chunks::zeroed(3 * PAGE_SIZE, 1, flags);
        one_of(nr, chunks, &[ENOMEM])?;
    }
    Ok(())
}

/// Asks two chunks for every chunk and page to try.
fn parts(mut chunks: Chunks) -> Outcome {
    for a in numbers(chunks.count()) {
        check_eq!(chunks.paddr(a).is_some(), a < 2, "{a}");
        check_eq!(chunks.page(a).is_some(), a < 3, "{a}");
        for b in numbers(chunks.count()) {
            chunks.swap(a, b);
        }
    }
    touch(chunks)
}

/// Lists memory so often that the sum of lengths overflows.
pub(crate) fn repeated(mapper: &Mapper<'_>) -> Outcome {
    struct Huge;

    // SAFETY: there is no memory, and so nothing that is anywhere.
    unsafe impl Memory for Huge {
        type Direction = DataDirection;

        type Phyrs<'a> = iter::Empty<Result<phyr::Phyr>>;

        fn phyrs(&self) -> Self::Phyrs<'_> {
            iter::empty()
        }

        fn len(&self) -> usize {
            usize::MAX / 2
        }

        fn read(&self, _: usize, _: &mut [u8]) -> Result {
            Err(EINVAL)
        }

        fn write(&mut self, _: usize, _: &[u8]) -> Result {
            Err(EINVAL)
        }
    }

    let mut list = KVVec::new();
    for _ in 0..5 {
        list.push(Huge, GFP_KERNEL)?;
    }
    check_eq!(Memory::len(&list), usize::MAX);
    check_err!(mapper.map(list, DIR, GFP_KERNEL), EINVAL);
    let mut list = KVVec::new();
    list.push(Huge, GFP_KERNEL)?;
    // More than there is memory.
    check!(mapper.linear_copy(list, DIR).is_err());
    Ok(())
}
