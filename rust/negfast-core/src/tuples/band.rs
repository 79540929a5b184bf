//! Margins between which triplets are chosen.

/// Triplets by their margin: the closeness of the positive less that of the negative, in `f32`.
///
/// A negative that is closer has a smaller margin, so those of one positive that are in the band are a run of the
/// negatives in the order of their closeness.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Band {
    /// Margins have to be above this.
    pub above: Option<f32>,
    /// They may be as large as this.
    pub up_to: Option<f32>,
}

impl Band {
    /// Whether a margin is below the band: the negative is too close.
    pub fn too_hard(&self, margin: f32) -> bool {
        self.above.is_some_and(|above| margin <= above)
    }

    /// Whether a margin is beyond the band: the negative is too far.
    pub fn too_easy(&self, margin: f32) -> bool {
        self.up_to.is_some_and(|up_to| margin > up_to)
    }

    /// Whether a margin is in the band.
    pub fn holds(&self, margin: f32) -> bool {
        !self.too_hard(margin) && !self.too_easy(margin)
    }
}
