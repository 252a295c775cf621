//! Numbers that look random, and are the same each time: SplitMix64.

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A row of them.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`, which is from 1 to 2^32.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(GAMMA);
        ((number >> 32) * bound) >> 32
    }
}

/// The number that follows one, spread over 64 bits.
pub(crate) fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(GAMMA);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
