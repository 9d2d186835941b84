// SPDX-License-Identifier: GPL-2.0

//! Bytes as a row of choices, of which oracles make their cases.

/// Choices that are made by bytes. After the last byte each choice is the first one.
pub struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn take(&mut self, n: usize) -> u64 {
        let (now, rest) = self.bytes.split_at(n.min(self.bytes.len()));
        self.bytes = rest;
        now.iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte))
    }

    /// Takes the bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Chooses a number below `limit`, which must not be zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        let n = match limit {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            0x1_0001..=0x1_0000_0000 => 4,
            _ => 8,
        };
        self.take(n) % limit
    }

    /// Returns `true` once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == n - 1
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Chooses a number of any size, often near an edge: zero, a power of two, the highest.
    pub fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(1 << 8),
            1 => (1u64 << self.below(64))
                .wrapping_add(self.below(9))
                .wrapping_sub(4),
            2 => u64::MAX - self.below(1 << 8),
            3 => self.below(1 << 16) << self.below(49),
            4 => u64::MAX >> self.below(64),
            _ => self.take(8),
        }
    }

    /// Returns up to `max` values of `make`.
    pub fn list<T>(&mut self, max: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let nr = self.below(max + 1);
        (0..nr).map(|_| make(self)).collect()
    }
}

/// Runs an oracle on random bytes, the same in each run; `CASES` is the number of cases.
#[cfg(test)]
pub fn run_random(name: &str, check: fn(&mut Input<'_>)) {
    let cases = std::env::var("CASES").map_or(20_000, |n| n.parse().expect("CASES is a number"));
    let seed = name.bytes().fold(1u64, |seed, byte| {
        seed.wrapping_mul(31).wrapping_add(byte.into())
    });
    let mut random = crate::model::Random::new(seed);

    for case in 0..cases {
        let len = random.below(400);
        let bytes: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
        let caught = std::panic::catch_unwind(|| check(&mut Input::new(&bytes)));
        if caught.is_err() {
            panic!("oracle {name}, case {case}: {bytes:?}");
        }
    }
}
