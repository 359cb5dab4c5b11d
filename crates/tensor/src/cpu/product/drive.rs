//! Products of packed operands, cut into blocks of the output: one task each.
#![allow(unsafe_code)]

use super::super::parallel::for_each;
use super::super::scalar::Scalar;
use super::Threads;
use super::pack::Source;
use super::panels::{Panels, Run, Workspace};
use super::tile::{Mode, Tile};
use super::unit::{PANEL, Side, Unit};
use super::view::ViewMut;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

/// Most rows of a block of the output: its left operand stays in the second-level cache.
const BLOCK_ROWS: usize = 192;
/// Most columns of a block: what the tasks read of the right operand stays in the third-level cache.
const BLOCK_COLS: usize = 3072;
/// Blocks start at multiples of this: a multiple of every unit's tile, and of the panels.
const STEP_ROWS: usize = 32;
const STEP_COLS: usize = 96;
/// Tasks that a product is cut into, a multiple of which shares out evenly among a few threads.
const TASKS: usize = 8;

/// Which part of the output is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// On and below the diagonal; tiles that lie wholly above are left alone.
    LowerTriangle,
}

/// Where an output is: rows `stride` elements apart, of the size that the [`Mode`] implies.
#[derive(Clone, Copy)]
pub(super) struct Out<'a> {
    ptr: *mut u8,
    stride: usize,
    marker: PhantomData<&'a mut ()>,
}

// SAFETY: an output is exclusive to its product, whose tasks write to different blocks of it.
unsafe impl Send for Out<'_> {}
// SAFETY: as above.
unsafe impl Sync for Out<'_> {}

impl<'a, T> From<&'a ViewMut<'_, T>> for Out<'a> {
    fn from(view: &'a ViewMut<'_, T>) -> Self {
        Self { ptr: view.ptr.cast(), stride: view.stride, marker: PhantomData }
    }
}

/// The left operand: packed as the tasks need it, or before.
pub(super) enum Left<'a, T: Scalar> {
    Source(Source<'a, T>),
    Panels(&'a Panels<T>),
}

impl<T: Scalar> Left<'_, T> {
    fn majors(&self) -> usize {
        match self {
            Self::Source(source) => source.majors,
            Self::Panels(panels) => panels.majors,
        }
    }
}

/// Panels in memory: where row (or column) `first` is, and the bytes between panels.
#[derive(Clone, Copy)]
struct Operand {
    base: *const u8,
    first: usize,
    stride: usize,
}

impl Operand {
    fn at<T>(self, unit: Unit, major: usize) -> *const u8 {
        let within = (major - self.first) % PANEL;
        let bytes = if unit == Unit::Portable { within * size_of::<T>() } else { within * size_of::<f32>() };
        self.base.wrapping_add((major - self.first) / PANEL * self.stride + bytes)
    }
}

/// The blocks that an output is cut into, of nearly equal size.
struct Grid {
    rows: usize,
    cols: usize,
    down: usize,
    across: usize,
}

impl Grid {
    fn new(rows: usize, cols: usize, threads: Threads) -> Self {
        let across = cols.div_ceil(BLOCK_COLS).max(1);
        let down = rows.div_ceil(BLOCK_ROWS).max(1);
        if threads == Threads::One {
            return Self { rows, cols, down, across };
        }
        let down = down.next_multiple_of(TASKS).min(rows.div_ceil(STEP_ROWS)).max(1);
        let across = across.max(TASKS.div_ceil(down)).min(cols.div_ceil(STEP_COLS)).max(1);
        Self { rows, cols, down, across }
    }

    fn count(&self) -> usize {
        self.down * self.across
    }

    /// Rows and columns of a task; consecutive tasks share columns, those of the longest rows of a triangle first.
    fn block(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let (row, col) = (self.down - 1 - task % self.down, task / self.down);
        (part(self.rows, STEP_ROWS, self.down, row), part(self.cols, STEP_COLS, self.across, col))
    }
}

/// Part `i` of `count` of a side, which starts at a multiple of `step`.
fn part(size: usize, step: usize, count: usize, i: usize) -> Range<usize> {
    let steps = size.div_ceil(step);
    let at = |i: usize| (steps * i / count * step).min(size);
    at(i)..at(i + 1)
}

/// `out (+)= left right`, plus a bias `[cols]` on every row. The inner dimension is one run.
///
/// # Safety
/// `out` must have the rows of `left`, the columns of `right` and the numbers that `mode` wants, and be exclusive.
pub(super) unsafe fn multiply<T: Scalar>(
    threads: Threads,
    left: &Left<'_, T>,
    right: &Panels<T>,
    mode: Mode,
    bias: Option<&[T]>,
    part: Part,
    out: Out<'_>,
) {
    assert!(right.runs().len() == 1, "the inner dimension of a whole product is one run");
    assert!(bias.is_none_or(|bias| bias.len() == right.majors), "a bias does not fit its product");
    let grid = Grid::new(left.majors(), right.majors, threads);
    for_each(grid.count(), threads == Threads::Pool && grid.count() > 1, |task| {
        let (rows, cols) = grid.block(task);
        if part == Part::LowerTriangle && cols.start >= rows.end {
            return;
        }
        // SAFETY: tasks have different blocks of the output; the rest is the contract of this function.
        unsafe { block(left, right, mode, bias, part, out, rows, cols) };
    });
}

thread_local! {
    static LEFT: RefCell<Workspace> = const { RefCell::new(Workspace::new()) };
}

/// # Safety
/// As [`multiply`], for exclusive access to the block of the output.
unsafe fn block<T: Scalar>(
    left: &Left<'_, T>,
    right: &Panels<T>,
    mode: Mode,
    bias: Option<&[T]>,
    part: Part,
    out: Out<'_>,
    rows: Range<usize>,
    cols: Range<usize>,
) {
    let unit = right.unit;
    let _tiles = unit.enter();
    let run = right.runs()[0];
    let mut start = 0;
    let mut mode = mode;
    loop {
        let most = match mode {
            Mode::AddSquares => usize::MAX,
            // Both operands are packed before, and a visit to an output in f64 costs twice as much.
            Mode::AddWide => 2 * unit.chunk(),
            Mode::Replace | Mode::Add => unit.chunk(),
        };
        let granules = most.min(run.granules - start);
        let offset = run.offset + start * unit.granule_bytes::<T>();
        let operand = Operand { base: right.at(cols.start / PANEL, offset), first: cols.start, stride: right.stride };
        let tiles = Tiles {
            unit,
            right: operand,
            granules,
            mode,
            bias: bias.filter(|_| start == 0),
            part,
            out,
            rows: rows.clone(),
            cols: cols.clone(),
        };
        // SAFETY: by the contract of this function; the operands hold `granules` from `offset` on.
        match left {
            Left::Panels(panels) => unsafe {
                let base = panels.at(rows.start / PANEL, offset);
                tiles.run(Operand { base, first: rows.start, stride: panels.stride });
            },
            Left::Source(source) => LEFT.with_borrow_mut(|buffer| unsafe {
                let steps = start * unit.granule()..((start + granules) * unit.granule()).min(source.depth);
                tiles.run(pack_left(source, unit, rows.clone(), steps, buffer));
            }),
        }
        start += granules;
        if start >= run.granules {
            break;
        }
        mode = if mode == Mode::Replace { Mode::Add } else { mode };
    }
}

/// Packs some rows and steps of the left operand to the thread's buffer.
fn pack_left<T: Scalar>(
    source: &Source<'_, T>,
    unit: Unit,
    rows: Range<usize>,
    steps: Range<usize>,
    buffer: &mut Workspace,
) -> Operand {
    let stride = Source::<T>::panel_bytes(unit, steps.len()).next_multiple_of(64);
    let base = buffer.reserve(rows.len().div_ceil(PANEL) * stride);
    for panel in 0..rows.len().div_ceil(PANEL) {
        // SAFETY: the buffer has room for every panel, one after the other.
        unsafe {
            let at = base.add(panel * stride);
            source.pack_panel(unit, Side::Left, rows.start / PANEL + panel, steps.start, steps.len(), at);
        }
    }
    Operand { base, first: rows.start, stride }
}

/// All tiles of one block, over a part of the inner dimension.
struct Tiles<'a, T: Scalar> {
    unit: Unit,
    right: Operand,
    granules: usize,
    mode: Mode,
    bias: Option<&'a [T]>,
    part: Part,
    out: Out<'a>,
    rows: Range<usize>,
    cols: Range<usize>,
}

impl<T: Scalar> Tiles<'_, T> {
    /// # Safety
    /// As [`block`]; `left` must hold the rows and granules.
    unsafe fn run(&self, left: Operand) {
        let (tile_rows, tile_cols) = self.unit.tile();
        for col in self.cols.clone().step_by(tile_cols) {
            for row in self.rows.clone().step_by(tile_rows) {
                let rows = tile_rows.min(self.rows.end - row);
                if self.part == Part::LowerTriangle && col >= row + rows {
                    continue;
                }
                let tile = Tile {
                    left: left.at::<T>(self.unit, row),
                    left_stride: left.stride,
                    right: self.right.at::<T>(self.unit, col),
                    right_stride: self.right.stride,
                    granules: self.granules,
                    out: self.out.ptr.wrapping_add((row * self.out.stride + col) * self.mode.out_size::<T>()),
                    stride: self.out.stride,
                    rows,
                    cols: tile_cols.min(self.cols.end - col),
                    mode: self.mode,
                    bias: self.bias.map_or(std::ptr::null(), |bias| bias[col..].as_ptr()),
                };
                // SAFETY: by the contract of this function.
                unsafe { tile.run(self.unit) };
            }
        }
    }
}

/// Computes one block of `left` `right` over run `run`, both packed, to `out` `[rows, cols]`.
///
/// # Safety
/// `out` must be valid for exclusive access, and initialised unless it is replaced.
pub(super) unsafe fn block_of_run<T: Scalar>(
    left: &Panels<T>,
    right: &Panels<T>,
    run: Run,
    rows: Range<usize>,
    cols: Range<usize>,
    mode: Mode,
    out: Out<'_>,
) {
    let unit = right.unit;
    let operand = |panels: &Panels<T>, first: usize| Operand {
        base: panels.at(first / PANEL, run.offset),
        first: 0,
        stride: panels.stride,
    };
    let tiles = Tiles::<T> {
        unit,
        right: operand(right, cols.start),
        granules: run.granules,
        mode,
        bias: None,
        part: Part::Whole,
        out,
        rows: 0..rows.len(),
        cols: 0..cols.len(),
    };
    // SAFETY: by the contract of this function.
    unsafe { tiles.run(operand(left, rows.start)) };
}
