//! Operands in packed form.
#![allow(unsafe_code)]

use super::super::parallel::{Shared, for_each};
use super::super::scalar::Scalar;
use super::Threads;
use super::pack::Source;
use super::unit::{DEPTH, PANEL, Side, Unit};
use super::view::View;
use crate::{Buffer, Precision, Segment, pool};
use std::marker::PhantomData;

/// A part of the inner dimension: where it starts in each panel, in bytes, and its granules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(super) offset: usize,
    pub(super) granules: usize,
}

pool::has_pools!(Run);

/// The parts of an inner dimension.
enum Runs {
    Whole(Run),
    Parts(Buffer<Run>),
}

/// Memory that starts at a cache line, and grows as needed.
pub(super) struct Workspace(Vec<f32>);

impl Workspace {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Room for `bytes`, with any content.
    pub(super) fn reserve(&mut self, bytes: usize) -> *mut u8 {
        let words = words_for(bytes);
        if self.0.capacity() < words {
            self.0 = Vec::with_capacity(words);
        }
        let start = self.0.as_mut_ptr();
        start.wrapping_add(misalignment(start)).cast()
    }
}

/// Packed panels of one side of a product, from a buffer that is kept for the next ones.
pub(crate) struct Panels<T> {
    words: Buffer<f32>,
    pub(super) unit: Unit,
    pub(super) side: Side,
    pub(super) majors: usize,
    pub(super) depth: usize,
    /// Bytes between panels.
    pub(super) stride: usize,
    runs: Runs,
    marker: PhantomData<T>,
}

const WORD: usize = size_of::<f32>();
const LINE: usize = 64;
/// Panels of a task of packing: their rows are read side by side, a few lines of memory at a time.
const GROUP: usize = 8;

/// Numbers between the start of a buffer and its first cache line.
fn misalignment(words: *const f32) -> usize {
    words.align_offset(LINE)
}

/// Room for `bytes` from the first cache line of a buffer on.
fn words_for(bytes: usize) -> usize {
    bytes.div_ceil(WORD) + LINE / WORD
}

impl<T: Scalar> Panels<T> {
    /// Packs an operand of a product at a precision, in parallel where it is big and `threads` allow.
    pub(crate) fn pack(precision: Precision, threads: Threads, view: View<'_, T>, side: Side) -> Self {
        let whole = Segment { start: 0, len: if side == Side::Left { view.cols } else { view.rows } };
        Self::pack_segments(precision, threads, view, side, &[whole])
    }

    /// Packs the parts `segments` of the inner dimension, each padded to whole granules: one run each.
    pub(crate) fn pack_segments(
        precision: Precision,
        threads: Threads,
        view: View<'_, T>,
        side: Side,
        segments: &[Segment],
    ) -> Self {
        let unit = Unit::of::<T>(precision);
        Self::pack_for(unit, Source::new(view, side, T::ONE, unit.rounds(precision)), threads, side, segments)
    }

    pub(super) fn pack_for(
        unit: Unit,
        source: Source<'_, T>,
        threads: Threads,
        side: Side,
        segments: &[Segment],
    ) -> Self {
        let mut stride = 0;
        let mut run_of = |segment: &Segment| {
            let run = Run { offset: stride, granules: segment.len.div_ceil(unit.granule()) };
            stride += Source::<T>::panel_bytes(unit, segment.len);
            run
        };
        let runs = match segments {
            [whole] => Runs::Whole(run_of(whole)),
            parts => Runs::Parts(parts.iter().map(&mut run_of).collect()),
        };
        let stride = stride.next_multiple_of(LINE);
        let count = source.majors.div_ceil(PANEL);
        let mut words = Buffer::stale(words_for(count * stride));
        let skip = misalignment(words.as_ptr());
        let is_big = source.majors * source.depth >= 1 << 16;
        let shared = Shared::new(&mut words[skip..]);
        for_each(count.div_ceil(GROUP), is_big && threads == Threads::Pool, |group| {
            for (run, segment) in runs.all().iter().zip(segments) {
                for start in (0..segment.len).step_by(DEPTH) {
                    let steps = DEPTH.min(segment.len - start);
                    let offset = run.offset + start / unit.granule() * unit.granule_bytes::<T>();
                    for panel in group * GROUP..count.min((group + 1) * GROUP) {
                        let base: *mut u8 = shared.at(panel * stride / WORD, stride / WORD).cast();
                        // SAFETY: each panel has its own part of the buffer, in which blocks follow each other.
                        unsafe { source.pack_panel(unit, side, panel, segment.start + start, steps, base.add(offset)) };
                    }
                }
            }
        });
        let (majors, depth) = (source.majors, source.depth);
        Self { words, unit, side, majors, depth, stride, runs, marker: PhantomData }
    }

    /// The parts of the inner dimension.
    pub(super) fn runs(&self) -> &[Run] {
        self.runs.all()
    }

    /// Byte `offset` of panel `panel`.
    pub(super) fn at(&self, panel: usize, offset: usize) -> *const u8 {
        let start = misalignment(self.words.as_ptr()) * WORD + panel * self.stride + offset;
        assert!(start <= self.words.len() * WORD, "a panel lies outside of its buffer");
        self.words.as_ptr().cast::<u8>().wrapping_add(start)
    }
}

impl Runs {
    fn all(&self) -> &[Run] {
        match self {
            Self::Whole(run) => std::slice::from_ref(run),
            Self::Parts(runs) => runs,
        }
    }
}

impl<T> std::fmt::Debug for Panels<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Panels[{}, {}; {:?}]", self.majors, self.depth, self.unit)
    }
}
