//! Numbers that start at a cache line, for vectors that must not straddle two; many of them in large pages, where the
//! system can be asked: rows are read in no order, and with small pages each would have to be looked up.

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Numbers that are whatever their bits say, zeros included.
pub trait Number: Copy + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl sealed::Sealed for $number {}
        impl Number for $number {}
    )*};
}
numbers!(i8, u8, i16, f32);

/// A vector whose first element lies at the start of a cache line.
#[derive(Debug)]
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    marker: std::marker::PhantomData<T>,
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { lines: Vec::new(), len: 0, marker: std::marker::PhantomData }
    }
}

impl<T: Number> Aligned<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut vector = Self::default();
        vector.resize(len);
        vector
    }

    /// Makes it `len` long: with zeros at its end, or cut off.
    pub fn resize(&mut self, len: usize) {
        let lines = (len * size_of::<T>()).div_ceil(LINE);
        if lines > self.lines.capacity() {
            self.lines.reserve_exact(lines - self.lines.len());
            advise(self.lines.as_ptr().cast(), lines * LINE);
        }
        self.lines.resize(lines, Line([0; LINE]));
        self.len = len;
    }
}

impl<T: Number> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold at least `len` numbers, are aligned for any of them, and any bits are a number.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// Asks for large pages for memory that was just reserved.
fn advise(start: *const u8, bytes: usize) {
    const LARGE: usize = 2 << 20;
    #[cfg(target_os = "linux")]
    if bytes >= 2 * LARGE {
        let (first, end) = (start.addr().next_multiple_of(LARGE), start.addr() + bytes);
        let first = start.with_addr(first);
        // SAFETY: the range lies within one allocation, and the advice changes no contents; if it is refused, pages stay as
        // they are.
        unsafe { libc::madvise(first.cast_mut().cast(), end - first.addr(), libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes, LARGE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_start_at_a_line_and_keep_their_values() {
        let mut vector = Aligned::<i16>::zeros(33);
        vector.iter_mut().zip(0..).for_each(|(x, i)| *x = i);
        vector.resize(100);
        assert!(vector.as_ptr().addr() % LINE == 0 && vector.len() == 100);
        assert!(vector[..33].iter().zip(0..).all(|(x, i)| *x == i) && vector[33..96].iter().all(|&x| x == 0));
        vector.resize(0);
        assert!(vector.is_empty());
    }
}
