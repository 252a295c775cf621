//! A number for each section; those of a range can be raised, and the greatest is known. A segment tree, in which a node's own raise
//! holds for all below it.

/// The number of each section. Sums that 64 bits do not hold stay at the greatest number.
#[derive(Debug)]
pub(super) struct Prospects {
    nodes: Vec<Raised>,
    /// The number of the first leaf among the nodes.
    leaves: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Raised {
    /// The greatest number below, with the node's own raise.
    most: u64,
    own: u64,
}

impl Raised {
    fn add(&mut self, by: u64) {
        self.most = self.most.saturating_add(by);
        self.own = self.own.saturating_add(by);
    }
}

impl Prospects {
    pub(super) fn new(sections: usize) -> Self {
        let leaves = sections.next_power_of_two();
        Self { nodes: vec![Raised::default(); 2 * leaves], leaves }
    }

    pub(super) fn fill(&mut self, numbers: &[u64]) {
        for (node, &most) in self.nodes[self.leaves..].iter_mut().zip(numbers) {
            *node = Raised { most, own: 0 };
        }
        for number in (1..self.leaves).rev() {
            let most = self.below(number);
            self.nodes[number] = Raised { most, own: 0 };
        }
    }

    fn below(&self, number: usize) -> u64 {
        self.nodes[2 * number].most.max(self.nodes[2 * number + 1].most)
    }

    /// Raises the sections from `start` to `end`, which are at least one.
    pub(super) fn add(&mut self, start: u32, end: u32, by: u64) {
        let (mut first, mut last) = (self.leaves + start as usize, self.leaves + end as usize - 1);
        let (mut low, mut high) = (first, last + 1);
        while low < high {
            if low % 2 == 1 {
                self.nodes[low].add(by);
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                self.nodes[high].add(by);
            }
            (low, high) = (low / 2, high / 2);
        }
        while first > 1 {
            (first, last) = (first / 2, last / 2);
            self.gather(first);
            if first != last {
                self.gather(last);
            }
        }
    }

    fn gather(&mut self, number: usize) {
        self.nodes[number].most = self.below(number).saturating_add(self.nodes[number].own);
    }

    pub(super) fn most(&self) -> u64 {
        self.nodes[1].most
    }

    /// The greatest number of the sections from `start` to `end`, which are at least one.
    pub(super) fn most_of(&self, start: u32, end: u32) -> u64 {
        let (mut low, mut high) = (self.leaves + start as usize, self.leaves + end as usize - 1);
        let (mut left, mut right) = (self.nodes[low].most, self.nodes[high].most);
        // The two climb, each beside the other's way, until they meet below one node; what that one has, and those above, is added.
        while low / 2 != high / 2 {
            if low % 2 == 0 {
                left = left.max(self.nodes[low + 1].most);
            }
            if high % 2 == 1 {
                right = right.max(self.nodes[high - 1].most);
            }
            (low, high) = (low / 2, high / 2);
            left = left.saturating_add(self.nodes[low].own);
            right = right.saturating_add(self.nodes[high].own);
        }
        let mut most = left.max(right);
        while low > 1 {
            low /= 2;
            most = most.saturating_add(self.nodes[low].own);
        }
        most
    }

    /// The first section with the greatest number of those from `start` to `end`, which are at least one.
    pub(super) fn section(&self, start: u32, end: u32) -> u32 {
        let (mut low, mut high) = (self.leaves + start as usize, self.leaves + end as usize - 1);
        // As above, each with the node that has the greatest number.
        let (mut left, mut right) = ((self.nodes[low].most, low), (self.nodes[high].most, high));
        while low / 2 != high / 2 {
            if low.is_multiple_of(2) && self.nodes[low + 1].most > left.0 {
                left = (self.nodes[low + 1].most, low + 1);
            }
            if high % 2 == 1 && self.nodes[high - 1].most >= right.0 {
                right = (self.nodes[high - 1].most, high - 1);
            }
            (low, high) = (low / 2, high / 2);
            left.0 = left.0.saturating_add(self.nodes[low].own);
            right.0 = right.0.saturating_add(self.nodes[high].own);
        }
        let mut number = if right.0 > left.0 { right.1 } else { left.1 };
        while number < self.leaves {
            number *= 2;
            if self.nodes[number + 1].most > self.nodes[number].most {
                number += 1;
            }
        }
        (number - self.leaves) as u32
    }
}
