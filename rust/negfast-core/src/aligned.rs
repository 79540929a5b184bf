//! Numbers that start at a cache line, for vectors that must not straddle two; many of them in large pages, where the
//! system can be asked: rows are read in no order, and with small pages each would have to be looked up.

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

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
numbers!(i8, u8, i16, u32, f32);

/// A vector whose first element lies at the start of a cache line.
#[derive(Debug)]
pub struct Aligned<T> {
    /// Memory for the numbers and for the way to the next line.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
    marker: std::marker::PhantomData<T>,
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { bytes: Vec::new(), start: 0, len: 0, marker: std::marker::PhantomData }
    }
}

impl<T: Number> Aligned<T> {
    /// `len` zeros, which cost nothing before they are touched: threads that fill them share the work.
    pub fn zeros(len: usize) -> Self {
        let bytes = vec![0u8; len * size_of::<T>() + LINE];
        advise(bytes.as_ptr(), bytes.len());
        let start = bytes.as_ptr().addr().next_multiple_of(LINE) - bytes.as_ptr().addr();
        Self { bytes, start, len, marker: std::marker::PhantomData }
    }

    /// Makes it `len` long: with zeros at its end, or cut off.
    pub fn resize(&mut self, len: usize) {
        let before = self.len;
        if self.start + len * size_of::<T>() <= self.bytes.len() {
            self.len = len;
            if len > before {
                let span = self.start + before * size_of::<T>()..self.start + len * size_of::<T>();
                self.bytes[span].fill(0);
            }
        } else {
            let mut longer = Self::zeros(len);
            longer[..before].copy_from_slice(self);
            *self = longer;
        }
    }
}

impl<T: Number> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let span = &self.bytes[self.start..self.start + self.len * size_of::<T>()];
        // SAFETY: `span` is that many numbers long and starts at a line (or is empty, at a byte's own alignment, where the
        // dangling pointer below is used), and any bits are a number.
        unsafe { std::slice::from_raw_parts(aligned(span.as_ptr(), self.len), self.len) }
    }
}

impl<T: Number> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let span = &mut self.bytes[self.start..self.start + self.len * size_of::<T>()];
        let first: *mut T = if self.len == 0 { std::ptr::dangling_mut() } else { span.as_mut_ptr().cast() };
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(first, self.len) }
    }
}

/// A pointer to `len` numbers; to none, one that is aligned at least.
fn aligned<T>(first: *const u8, len: usize) -> *const T {
    if len == 0 { std::ptr::dangling() } else { first.cast() }
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
        assert!(vector.as_ptr().addr().is_multiple_of(LINE) && vector.len() == 100);
        assert!(vector[..33].iter().zip(0..).all(|(x, i)| *x == i) && vector[33..96].iter().all(|&x| x == 0));
        vector.resize(0);
        assert!(vector.is_empty());
    }
}
