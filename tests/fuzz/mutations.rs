//! Random inputs, the same ones on each run: seeds that were changed, and bytes out of nowhere.

/// Longer ones take longer and show no more.
const LONGEST: usize = 2000;

pub(crate) struct Mutations<'a> {
    seeds: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutations<'a> {
    pub(crate) fn new(seeds: &'a [Vec<u8>]) -> Self {
        Self { seeds, state: 0x0123_4567_89ab_cdef }
    }

    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = match self.below(4) {
            0 => Vec::new(),
            _ => self.seed().to_vec(),
        };
        if input.is_empty() {
            let length = self.below(300);
            input.extend((0..length).map(|_| self.byte()));
        }
        for _ in 0..1 + self.below(6) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        match self.below(6) {
            0 => input.insert(at, self.byte()),
            1 if at < input.len() => drop(input.remove(at)),
            2 if at < input.len() => input[at] ^= 1 << self.below(8),
            3 if at < input.len() => input[at] = self.byte(),
            // A piece of another seed, or of this one once more.
            4 => {
                let other = self.seed();
                let from = self.below(other.len() + 1);
                let to = (from + self.below(40)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let end = (at + self.below(20)).min(input.len());
                input.drain(at..end);
            }
        }
    }

    fn seed(&mut self) -> &'a [u8] {
        let which = self.below(self.seeds.len());
        &self.seeds[which]
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    fn below(&mut self, limit: usize) -> usize {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}
