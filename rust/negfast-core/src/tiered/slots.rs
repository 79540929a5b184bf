//! The candidates of one anchor, from all sources, each content once.

use crate::error::Result;
use crate::rng::Stream;
use crate::tiered::allotment::Allotment;
use crate::tiered::identity::Identity;
use crate::tiered::{Edges, Proposals};

const NONE: u32 = u32::MAX;

/// One row that some source proposed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) row: u32,
    pub(super) source: u32,
    pub(super) score: f32,
    pub(super) tier: u8,
    /// Log of the probability that it was proposed; `None` for a row that is listed, and so was proposed for certain.
    sampled: Option<f32>,
    next: u32,
}

/// One content, with the rows of it that were proposed.
#[derive(Debug, Clone, Copy)]
struct Slot {
    unit: u32,
    first: u32,
    refused: bool,
}

/// A content that a draw may take: the row that stands for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance {
    pub(super) member: Member,
    /// The hardest tier of its listed rows; `None` where it was sampled only.
    pub(super) tier: Option<u8>,
    /// Whether it can be taken as listed: a row of it has a token left for this anchor.
    pub(super) live: bool,
    /// Log of what it counts for if it is taken for certain.
    pub(super) log_weight: f64,
    /// The row and log weight with which it stands as a sampled one, if it was sampled too.
    pub(super) sampled: Option<(Member, f64)>,
}

/// Room for the candidates of an anchor. One per thread.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Slots by unit, in open addressing; an entry of an earlier anchor has another stamp.
    table: Vec<(u32, u32)>,
    stamp: u32,
    slots: Vec<Slot>,
    members: Vec<Member>,
}

impl Slots {
    /// Collects what the sources propose to the anchor at `place`.
    pub(super) fn collect(
        &mut self,
        proposals: &[Proposals<'_>],
        (place, anchor): (usize, u32),
        identity: &Identity,
        edges: Edges,
    ) -> Result<()> {
        self.clear(proposals.iter().map(|p| p.width).sum());
        for (source, proposals) in proposals.iter().enumerate() {
            let span = place * proposals.width..(place + 1) * proposals.width;
            for position in span {
                let Some(row) = proposals.row(position, identity.rows())? else { continue };
                let unit = identity.unit(row);
                let slot = self.slot(unit, || identity.refuses(anchor as usize, unit));
                if !self.slots[slot].refused {
                    let (score, hardness) = proposals.score(place, position);
                    let sampled = proposals.log_inclusion(position)?;
                    let tier = edges.tier(hardness);
                    self.add(slot, Member { row, source: source as u32, score, tier, sampled, next: NONE });
                }
            }
        }
        Ok(())
    }

    fn clear(&mut self, most: usize) {
        self.slots.clear();
        self.members.clear();
        self.stamp = self.stamp.wrapping_add(1);
        let size = (2 * most).next_power_of_two();
        if self.table.len() < size || self.stamp == 0 {
            self.table = vec![(0, 0); size.max(self.table.len())];
            self.stamp = 1;
        }
    }

    /// The slot of a unit, made if it is new.
    fn slot(&mut self, unit: u32, refused: impl FnOnce() -> bool) -> usize {
        let mask = self.table.len() - 1;
        let mut at = (unit.wrapping_mul(0x9e37_79b1) >> 7) as usize & mask;
        loop {
            let (stamp, slot) = self.table[at];
            if stamp != self.stamp {
                self.table[at] = (self.stamp, self.slots.len() as u32);
                self.slots.push(Slot { unit, first: NONE, refused: refused() });
                return self.slots.len() - 1;
            }
            if self.slots[slot as usize].unit == unit {
                return slot as usize;
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a row to its slot. A row that is there already keeps its source, unless that only sampled it.
    fn add(&mut self, slot: usize, member: Member) {
        let mut at = self.slots[slot].first;
        while at != NONE {
            let known = &mut self.members[at as usize];
            if known.row == member.row {
                if known.sampled.is_some() && member.sampled.is_none() {
                    *known = Member { next: known.next, ..member };
                } else if known.score.is_nan() {
                    (known.score, known.tier) = (member.score, member.tier);
                }
                return;
            }
            at = known.next;
        }
        self.members.push(Member { next: self.slots[slot].first, ..member });
        self.slots[slot].first = self.members.len() as u32 - 1;
    }

    /// The contents that may be taken, in the order in which they were first proposed.
    pub(super) fn chances(
        &self,
        anchor: u32,
        identity: &Identity,
        allotment: Option<&Allotment>,
        random: &mut Stream,
        chances: &mut Vec<Chance>,
    ) {
        chances.clear();
        for slot in self.slots.iter().filter(|slot| !slot.refused) {
            let (mut listed, mut sampled) = (Choice::default(), Choice::default());
            let (mut n_listed, mut tier) = (0u32, None);
            let mut at = slot.first;
            while at != NONE {
                let member = self.members[at as usize];
                at = member.next;
                if let Some(log_inclusion) = member.sampled {
                    sampled.offer(member, -f64::from(log_inclusion), random);
                    continue;
                }
                n_listed += 1;
                tier = tier.max(Some(member.tier));
                match allotment {
                    None => listed.offer(member, 0.0, random),
                    Some(allotment) => {
                        if let Some(scarcity) = allotment.scarcity(member.row, anchor) {
                            listed.offer(member, libm::log(scarcity), random);
                        }
                    }
                }
            }
            let sampled = sampled.held.map(|(member, log_weight)| (member, log_weight + log(sampled.n)));
            let per_listed = identity.size(slot.unit) as f64 / f64::from(n_listed.max(1));
            let share = if per_listed == 1.0 { 0.0 } else { libm::log(per_listed) };
            match listed.held.or(sampled) {
                Some((member, log_weight)) if tier.is_some() => chances.push(Chance {
                    member,
                    tier,
                    live: listed.held.is_some(),
                    log_weight: log_weight + log(listed.n) + share,
                    sampled,
                }),
                Some((member, log_weight)) => {
                    chances.push(Chance { member, tier, live: false, log_weight, sampled });
                }
                None => {}
            }
        }
    }
}

/// One of the rows that were offered, each alike.
#[derive(Debug, Default)]
struct Choice {
    held: Option<(Member, f64)>,
    n: u32,
}

impl Choice {
    fn offer(&mut self, member: Member, log_weight: f64, random: &mut Stream) {
        self.n += 1;
        if self.n == 1 || random.below(self.n) == 0 {
            self.held = Some((member, log_weight));
        }
    }
}

fn log(n: u32) -> f64 {
    if n <= 1 { 0.0 } else { libm::log(f64::from(n)) }
}
