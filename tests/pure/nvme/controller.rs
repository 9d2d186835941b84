// SPDX-License-Identifier: GPL-2.0

//! A controller's side of the data pointer, after the NVM Express base specification: it walks PRP
//! lists and SGL segments of any shape that the specification allows, not only of those that the
//! builders make, and refuses what it forbids.

use super::desc::{
    DataPointer, //
    DescriptorKind,
    DescriptorList,
};
use std::cell::Cell;

/// Descriptor memory: which words were written, and how often each was read.
pub struct Memory {
    addr: u64,
    words: Vec<Option<u64>>,
    reads: Vec<Cell<u32>>,
}

impl Memory {
    pub fn new(addr: u64, words: usize) -> Self {
        Self {
            addr,
            words: vec![None; words],
            reads: vec![Cell::new(0); words],
        }
    }

    fn read(&self, addr: u64) -> Result<u64, &'static str> {
        if addr % 8 != 0 {
            return Err("a word that is not aligned");
        }
        let at = addr
            .checked_sub(self.addr)
            .ok_or("memory in front of the list")?
            / 8;
        let word = self
            .words
            .get(at as usize)
            .ok_or("memory behind the list")?;
        let reads = &self.reads[at as usize];
        reads.set(reads.get() + 1);
        word.ok_or("memory that nobody wrote")
    }

    pub fn written(&self) -> usize {
        self.words.iter().flatten().count()
    }

    /// Returns whether the controller read what was written, each word once.
    fn all_read_once(&self) -> bool {
        let mut both = self.words.iter().zip(&self.reads);
        both.all(|(word, reads)| reads.get() == u32::from(word.is_some()))
    }
}

impl DescriptorList for Memory {
    fn addr(&self) -> u64 {
        self.addr
    }

    fn words(&self) -> usize {
        self.words.len()
    }

    fn put(&mut self, index: usize, value: u64) {
        self.words[index] = Some(value);
    }
}

/// Returns the places of the `len` bytes of a transfer, range by range, and the number of
/// descriptors that said so.
pub fn walk(
    pointer: &DataPointer,
    memory: &Memory,
    len: u64,
    page: u64,
) -> Result<(Vec<(u64, u64)>, u32), &'static str> {
    let ranges = match pointer.kind {
        DescriptorKind::Prp => walk_prp(pointer.words, memory, len, page),
        DescriptorKind::Sgl => walk_sgl(pointer.words, memory, len),
    }?;
    if !memory.all_read_once() {
        return Err("words that are not read, or twice");
    }
    let nr = ranges.len() as u32;
    Ok((ranges, nr))
}

/// Follows PRP entries: each names a page, from its offset on; only the first may have one.
fn walk_prp(
    [first, second]: [u64; 2],
    memory: &Memory,
    len: u64,
    page: u64,
) -> Result<Vec<(u64, u64)>, &'static str> {
    let mut out = Vec::new();
    let mut left = len;
    let mut take = |entry: u64, may_offset: bool| {
        let offset = entry % page;
        if entry % 4 != 0 || offset != 0 && !may_offset {
            return Err("an offset in an entry");
        }
        let len = left.min(page - offset);
        left -= len;
        out.push((entry, len));
        Ok(left)
    };

    let mut left = take(first, true)?;
    if left == 0 {
        return if second == 0 {
            Ok(out)
        } else {
            Err("PRP2 is set and not used")
        };
    }
    if left <= page {
        take(second, false)?;
        return Ok(out);
    }
    // A list. It ends with its page at the latest, and then goes on at what the last word says.
    let mut at = second;
    while left != 0 {
        let word = memory.read(at)?;
        if at % page == page - 8 && left > page {
            if word % page != 0 {
                return Err("a list that goes on within a page");
            }
            at = word;
        } else {
            left = take(word, false)?;
            at += 8;
        }
    }
    Ok(out)
}

/// Follows SGL descriptors: a data block, or a segment of descriptors of which the last may be
/// another.
fn walk_sgl(
    [addr, control]: [u64; 2],
    memory: &Memory,
    len: u64,
) -> Result<Vec<(u64, u64)>, &'static str> {
    const DATA: u64 = 0x0;
    const SEGMENT: u64 = 0x2;
    const LAST_SEGMENT: u64 = 0x3;

    let split = |control: u64| {
        if control >> 56 & 0xf != 0 {
            Err("a subtype that is no address")
        } else if control >> 32 & 0xff_ffff != 0 {
            Err("bits that are reserved")
        } else {
            Ok((control >> 60, control & 0xffff_ffff))
        }
    };
    let mut out = Vec::new();
    let mut data = |addr: u64, len: u64| {
        if len == 0 || (addr | len) % 4 != 0 || addr.checked_add(len).is_none() {
            return Err("a data block that makes no sense");
        }
        out.push((addr, len));
        Ok(())
    };

    let mut next = Some((addr, split(control)?));
    if let Some((addr, (DATA, len))) = next {
        data(addr, len)?;
        next = None;
    }
    while let Some((addr, (kind, bytes))) = next.take() {
        if !matches!(kind, SEGMENT | LAST_SEGMENT) || bytes == 0 || bytes % 16 != 0 {
            return Err("a segment that makes no sense");
        }
        for at in (addr..addr + bytes).step_by(16) {
            let (addr, inner) = (memory.read(at)?, split(memory.read(at + 8)?)?);
            if inner.0 == DATA {
                data(addr, inner.1)?;
            } else if kind == SEGMENT && at + 16 == addr + bytes {
                next = Some((addr, inner));
            } else {
                return Err("a segment within one");
            }
        }
        if kind == SEGMENT && next.is_none() {
            return Err("a segment that is the last, and does not say so");
        }
    }
    if out.iter().map(|&(_, len)| u128::from(len)).sum::<u128>() != len.into() {
        return Err("another length than the command's");
    }
    Ok(out)
}
