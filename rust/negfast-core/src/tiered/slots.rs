//! The candidates of one anchor, from all sources, each content once.

use crate::error::Result;
use crate::rng::Stream;
use crate::tiered::allotment::Tokens;
use crate::tiered::identity::{Content, Identity};
use crate::tiered::{Edges, Proposals};

const NONE: u32 = u32::MAX;

/// One row that some source proposed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) row: u32,
    pub(super) score: f32,
    /// Log of the probability that it was proposed, of a row that was sampled.
    pub(super) log_inclusion: f32,
    pub(super) source: u16,
    pub(super) tier: u8,
    pub(super) sampled: bool,
    /// Whether the anchor may draw it, as far as the cap goes.
    allowed: bool,
    next: u32,
}

/// One content, with the rows of it that were proposed.
#[derive(Debug, Clone, Copy)]
struct Slot {
    unit: u32,
    first: u32,
    refused: bool,
}

/// The row that stands for a content, chosen among `n` alike.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Choice {
    pub(super) member: u32,
    pub(super) n: u32,
}

impl Choice {
    fn offer(&mut self, member: u32, random: &mut Stream) {
        self.n += 1;
        if self.n == 1 || random.below(self.n as usize) == 0 {
            self.member = member;
        }
    }
}

/// A content that may be drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance {
    /// The hardest tier of its listed rows; `None` where there are none.
    pub(super) tier: Option<u8>,
    /// How many rows of it are listed.
    pub(super) n_listed: u32,
    /// Among listed rows that the anchor may draw.
    pub(super) listed: Choice,
    /// Among sampled rows.
    pub(super) sampled: Choice,
}

/// Room for the candidates of an anchor. One per thread.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Slots by unit, in open addressing; an entry of an earlier anchor has another stamp.
    table: Vec<(u32, u32)>,
    stamp: u32,
    slots: Vec<Slot>,
    members: Vec<Member>,
    /// Rows that one source proposes, with their positions.
    found: Vec<(usize, u32, Content)>,
}

impl Slots {
    pub(super) fn member(&self, i: u32) -> &Member {
        &self.members[i as usize]
    }

    /// Collects what the sources propose to the anchor at `place`.
    pub(super) fn collect(
        &mut self,
        proposals: &[(Proposals<'_>, Option<Tokens<'_>>)],
        (place, anchor): (usize, u32),
        identity: &Identity,
        edges: Edges,
    ) -> Result<()> {
        self.clear(proposals.iter().map(|(proposals, _)| proposals.width).sum());
        let judge = identity.judge(anchor);
        for (source, (proposals, tokens)) in proposals.iter().enumerate() {
            self.find(proposals, place, identity)?;
            for i in 0..self.found.len() {
                let (position, row, content) = self.found[i];
                let slot = self.slot(content.unit, || judge.refuses(content));
                if !self.slots[slot].refused {
                    let (score, hardness) = proposals.score(place, position);
                    let log_inclusion = proposals.log_inclusion(position)?;
                    let sampled = proposals.log_inclusion.is_some();
                    let (tier, source) = (edges.tier(hardness), source as u16);
                    let allowed = match tokens {
                        Some(tokens) => tokens.holds(anchor, position - place * proposals.width, proposals)?,
                        None => true,
                    };
                    self.add(slot, Member { row, score, log_inclusion, source, tier, sampled, allowed, next: NONE });
                }
            }
        }
        Ok(())
    }

    /// Looks up what a source proposes; all at once, so that one look at memory does not wait for another.
    fn find(&mut self, proposals: &Proposals<'_>, place: usize, identity: &Identity) -> Result<()> {
        self.found.clear();
        for position in place * proposals.width..(place + 1) * proposals.width {
            if let Some(row) = proposals.row(position, identity.rows())? {
                self.found.push((position, row, identity.content(row)));
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

    /// Adds a row to its slot. A row that is there already keeps its source; one that is both listed and sampled stands
    /// as both.
    fn add(&mut self, slot: usize, mut member: Member) {
        let first = self.slots[slot].first;
        let mut at = first;
        while at != NONE {
            let known = &mut self.members[at as usize];
            if known.row == member.row {
                if known.score.is_nan() {
                    (known.score, known.tier) = (member.score, member.tier);
                } else if member.score.is_nan() {
                    (member.score, member.tier) = (known.score, known.tier);
                }
                if known.sampled == member.sampled {
                    return;
                }
            }
            at = known.next;
        }
        self.members.push(Member { next: first, ..member });
        self.slots[slot].first = self.members.len() as u32 - 1;
    }

    /// What may be drawn, in the order in which it was first proposed.
    pub(super) fn chances(&self, random: &mut Stream, chances: &mut Vec<Chance>) {
        chances.clear();
        for slot in self.slots.iter().filter(|slot| !slot.refused) {
            let none = Choice::default();
            let mut chance = Chance { tier: None, n_listed: 0, listed: none, sampled: none };
            let mut at = slot.first;
            while at != NONE {
                let member = &self.members[at as usize];
                if member.sampled {
                    chance.sampled.offer(at, random);
                } else {
                    chance.n_listed += 1;
                    chance.tier = chance.tier.max(Some(member.tier));
                    if member.allowed {
                        chance.listed.offer(at, random);
                    }
                }
                at = member.next;
            }
            chances.push(chance);
        }
    }
}
