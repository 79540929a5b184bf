//! Communities into batches: whole ones, shuffled together, as many as a batch takes beside its share of random rows.
//!
//! R. Thirukovalluru, R. Meng et al., *Breaking the Batch Barrier (B3) of Contrastive Learning via Smart Batch Mining*, 2025.

use crate::batches::shape::Shape;
use crate::batches::table::Table;
use crate::rng::Stream;

/// Rows that belong together, and how many rows of a batch come from elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Together<'a> {
    /// The community of each row.
    pub community: &'a [u32],
    /// The share of rows that are dealt at random, from 0 to 1.
    pub random_share: f64,
}

/// Communities that wait for a batch.
struct Queue {
    members: Vec<Vec<u32>>,
    /// The order in which they are taken, the next last.
    order: Vec<u32>,
    /// The same by size.
    by_size: Vec<Vec<u32>>,
    taken: Vec<bool>,
}

/// Puts communities into batches. Rows that are to be dealt, and those that conflict with rows that are there, get no place.
pub(super) fn pour(table: &mut Table<'_>, shape: &Shape, together: &Together<'_>, first: &[u32], random: &mut Stream) {
    let mut queue = Queue::new(together, first, random);
    let share = 1.0 - together.random_share;
    // Short steps get what is left.
    let full = shape.full_rows();
    let room = (full as f64 * share) as usize;
    let rows = queue.cut(room, random);
    let (mut begin, mut poured) = (0, 0);
    let mut rest = Vec::new();
    for &size in shape.sizes() {
        // Each batch gets its part of what there is, to the nearest row.
        let upto = (rows as u128 * (begin + size).min(full) as u128 / full.max(1) as u128) as usize;
        let quota = (upto - poured).min(size);
        let mut place = begin;
        while place < begin + quota {
            let left = begin + quota - place;
            if rest.is_empty() {
                match queue.next(left) {
                    Some(members) => rest = members,
                    None => break,
                }
            }
            for row in rest.drain(..left.min(rest.len())) {
                // A row that does not fit leaves its place to one that is dealt.
                table.put(row, place as u32);
                place += 1;
            }
        }
        poured += place - begin;
        begin += size;
    }
}

impl Queue {
    fn new(together: &Together<'_>, first: &[u32], random: &mut Stream) -> Self {
        let count = together.community.iter().max().map_or(0, |&last| last as usize + 1);
        let mut members = vec![Vec::new(); count];
        let mut waited = vec![false; count];
        for (row, &community) in together.community.iter().enumerate() {
            if random.uniform() >= together.random_share {
                members[community as usize].push(row as u32);
            }
        }
        for &row in first {
            waited[together.community[row as usize] as usize] = true;
        }
        let mut order: Vec<u32> = (0..count as u32).filter(|&i| members[i as usize].len() > 1).collect();
        random.shuffle(&mut order);
        order.sort_by_key(|&i| waited[i as usize]);
        Self { members, order, by_size: Vec::new(), taken: vec![false; count] }
    }

    /// Keeps the next communities of at most `room` rows together, in another order; returns how many rows they have.
    fn cut(&mut self, room: usize, random: &mut Stream) -> usize {
        let mut rows = 0;
        let size = |members: &[Vec<u32>], i: u32| members[i as usize].len();
        let kept = self.order.iter().rev().take_while(|&&i| {
            rows += size(&self.members, i);
            rows <= room
        });
        self.order = kept.copied().collect();
        random.shuffle(&mut self.order);
        let largest = self.order.iter().map(|&i| size(&self.members, i)).max().unwrap_or(0);
        self.by_size = vec![Vec::new(); largest + 1];
        for &i in &self.order {
            self.by_size[size(&self.members, i)].push(i);
        }
        self.order.iter().map(|&i| size(&self.members, i)).sum()
    }

    /// The next community; if it does not fit into `room` places, the next of the largest size that does, if there is one.
    fn next(&mut self, room: usize) -> Option<Vec<u32>> {
        while self.order.last().is_some_and(|&i| self.taken[i as usize]) {
            self.order.pop();
        }
        let mut chosen = *self.order.last()?;
        if self.members[chosen as usize].len() > room {
            let largest = room.min(self.by_size.len() - 1);
            for same in self.by_size[..=largest].iter_mut().rev() {
                while same.last().is_some_and(|&i| self.taken[i as usize]) {
                    same.pop();
                }
                if let Some(&i) = same.last() {
                    chosen = i;
                    break;
                }
            }
        }
        self.taken[chosen as usize] = true;
        Some(std::mem::take(&mut self.members[chosen as usize]))
    }
}
