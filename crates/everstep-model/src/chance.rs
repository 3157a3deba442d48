//! Chance from a seed: the same seed draws the same, on every machine and for good. Absent on purpose: chance of the
//! machine; who wants a new stream names another seed.

/// A stream of numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Chance {
        // Neighbouring seeds must not begin alike.
        let mut chance = Chance(seed ^ 0x6576_6572_7374_6570);
        chance.next();
        chance
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of these, of which there is one at least.
    pub fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_for_good() {
        let mut chance = Chance::new(7);
        let drawn: Vec<_> = (0..6).map(|_| chance.below(100)).collect();
        let mut again = Chance::new(7);
        assert_eq!(drawn, (0..6).map(|_| again.below(100)).collect::<Vec<_>>());
        assert_ne!(Chance::new(8).next(), Chance::new(7).next());
    }
}
