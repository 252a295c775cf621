//! The planner against brute force and the public instances.

use fastrand::Rng;
use tenzor_plan::{BufferSpec, Problem, Proof, SpacePlan, Status, read_csv};

use crate::common::{cases, checked, meet, random, uses};

/// The least height of a space, by trying every order: in that of the offsets of a best placement, each group that is put to the
/// lowest place that is free lands no higher than there.
struct BruteForce<'p> {
    /// Buffers that share an offset.
    groups: Vec<Vec<&'p BufferSpec>>,
    /// Of two groups, the sizes of each two buffers that meet.
    meets: Vec<Vec<Vec<(u64, u64)>>>,
    placed: Vec<Option<u64>>,
    best: u64,
}

impl<'p> BruteForce<'p> {
    fn least_height(problem: &'p Problem, space: u32) -> Option<u64> {
        let mut groups: Vec<Vec<&BufferSpec>> = Vec::new();
        for spec in problem.buffers().iter().filter(|spec| spec.space == space) {
            match groups.iter_mut().find(|group| spec.alias.is_some() && group[0].alias == spec.alias) {
                Some(group) => group.push(spec),
                None => groups.push(vec![spec]),
            }
        }
        let placed = groups.iter().map(|group| group.iter().find_map(|spec| spec.offset)).collect();
        let pairs = |a: &[&BufferSpec], b: &[&BufferSpec]| -> Vec<(u64, u64)> {
            let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
            pairs.filter(|(a, b)| meet(a, b)).map(|(a, b)| (a.size, b.size)).collect()
        };
        let meets = groups.iter().map(|a| groups.iter().map(|b| pairs(a, b)).collect()).collect();
        let mut this = Self { groups, meets, placed, best: u64::MAX };
        for a in 0..this.groups.len() {
            for b in 0..a {
                if let (Some(at), Some(other)) = (this.placed[a], this.placed[b])
                    && this.clash(a, at, b, other)
                {
                    return None;
                }
            }
        }
        let height = (0..this.groups.len()).filter_map(|group| this.top(group)).max().unwrap_or(0);
        this.search(height);
        Some(this.best)
    }

    /// Where the highest buffer of a placed group ends that is ever in use.
    fn top(&self, group: usize) -> Option<u64> {
        let offset = self.placed[group]?;
        let used = |spec: &&&BufferSpec| uses(spec).iter().any(|range| !range.is_empty());
        self.groups[group].iter().filter(used).filter(|spec| spec.size > 0).map(|spec| offset + spec.size).max()
    }

    fn clash(&self, a: usize, at: u64, b: usize, other: u64) -> bool {
        self.meets[a][b].iter().any(|&(size, beside)| at < other + beside && other < at + size)
    }

    fn search(&mut self, height: u64) {
        if height >= self.best {
            return;
        }
        let left: Vec<usize> = (0..self.groups.len()).filter(|&group| self.placed[group].is_none()).collect();
        if left.is_empty() {
            self.best = height;
        }
        for group in left {
            let is_free = |offset: u64| {
                let aligned = self.groups[group].iter().all(|spec| offset.is_multiple_of(spec.alignment));
                let others = (0..self.groups.len()).filter_map(|other| Some((other, self.placed[other]?)));
                aligned && others.into_iter().all(|(other, at)| !self.clash(group, offset, other, at))
            };
            let offset = (0..).find(|&offset| is_free(offset));
            self.placed[group] = offset;
            let top = self.top(group).unwrap_or(0);
            self.search(height.max(top));
            self.placed[group] = None;
        }
    }
}

#[test]
fn brute_force_agrees() {
    let mut rng = Rng::with_seed(1);
    let (mut infeasible, mut aligned) = (0, 0);
    for case in 0..cases(10_000) {
        let mut problem = random(&mut rng, (case % 7) as u32);
        for space in 0..problem.spaces() {
            let plan = checked(&problem);
            let result = plan.spaces()[space as usize];
            let Some(least) = BruteForce::least_height(&problem, space) else {
                let Status::Infeasible { proof: Proof::Fixed { .. } } = result.status else {
                    panic!("{result:?}, but fixed buffers overlap in {problem:?}");
                };
                infeasible += 1;
                continue;
            };
            assert_eq!((result.height, result.status), (least, Status::Optimal), "{problem:?}");
            assert_eq!(result.lower_bound, least);
            problem.set_capacity(space, Some(least)).unwrap();
            assert_eq!(checked(&problem).spaces()[space as usize].height, least);
            if least > 0 {
                problem.set_capacity(space, Some(least - 1)).unwrap();
                let SpacePlan { status, lower_bound, .. } = checked(&problem).spaces()[space as usize];
                assert!(matches!(status, Status::Infeasible { .. }), "{status:?} below {least} in {problem:?}");
                assert_eq!(lower_bound, least, "{status:?} {problem:?}");
                aligned += u32::from(matches!(status, Status::Infeasible { proof: Proof::Searched }));
            }
            problem.set_capacity(space, None).unwrap();
        }
    }
    assert!(infeasible > 0 && aligned > 0);
}

/// The public instances, where they are at hand.
#[test]
fn hard_instances_are_solved() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/planning");
    let Ok(files) = std::fs::read_dir(folder) else { return };
    let mut count = 0;
    for path in files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "csv")) {
        let (mut problem, _) = read_csv(&std::fs::read(&path).unwrap()[..]).unwrap();
        problem.set_capacity(0, Some(1 << 20)).unwrap();
        assert!(checked(&problem).is_feasible(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 6);
}
