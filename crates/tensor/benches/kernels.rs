//! Speed of the kernels: `cargo bench -p etymon-tensor`. Prints the best of several runs.
//!
//! With `RAYON_NUM_THREADS=1` it counts the processor time of the one thread (on Linux), which a busy machine disturbs
//! less. Arguments select benches by a part of their name.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use etymon_tensor::{
    Accumulate, Activation, Attention, Backend, Cpu, CrossEntropy, Folds, Label, Matrix, Precision, RotaryStyle,
    Segment, Shape, Signs, Transpose,
};
use std::hint::black_box;
use std::time::Instant;

const B: Cpu<f32> = Cpu::new();

fn matrix(rows: usize, cols: usize) -> Matrix<f32> {
    let mut state = 1_u32;
    let data: Vec<f32> = (0..rows * cols)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect();
    B.upload(Shape::new(rows, cols), &data).unwrap()
}

fn sums(rows: usize, cols: usize) -> Matrix<f64> {
    B.sums(Shape::new(rows, cols), vec![0.0; rows * cols]).unwrap()
}

fn single_thread() -> bool {
    std::env::var("RAYON_NUM_THREADS").is_ok_and(|n| n == "1")
}

/// Seconds this thread has run, where the system tells.
fn processor_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(stat.split_whitespace().next()?.parse::<f64>().ok()? * 1e-9)
}

fn seconds(run: impl FnOnce()) -> f64 {
    let (clock, before) = (Instant::now(), processor_time().filter(|_| single_thread()));
    run();
    match (before, processor_time()) {
        (Some(before), Some(after)) => after - before,
        _ => clock.elapsed().as_secs_f64(),
    }
}

/// Best rate of several runs, in `work` per second.
fn report<R>(name: &str, work: f64, unit: &str, mut run: impl FnMut() -> R) {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
        return;
    }
    // The processor time is counted in ticks of some milliseconds: several calls make one sample.
    let mut sample = |calls: usize| {
        seconds(|| {
            for _ in 0..calls {
                black_box(run());
            }
        }) / calls as f64
    };
    sample(1);
    let calls = (0.2 / sample(3).max(1e-5)).clamp(1.0, 1000.0) as usize;
    let best = (0..5).map(|_| sample(calls)).fold(f64::INFINITY, f64::min);
    println!("{name:44} {:10.2} {unit:10} {:9.3} ms", work / best, best * 1e3);
}

fn products() {
    for (m, k, n) in [(1024, 1024, 1024), (1024, 768, 3072), (1024, 3072, 768), (1024, 768, 768)] {
        let giga = 2e-9 * (m * k * n) as f64;
        let (a, b) = (matrix(m, k), matrix(k, n));
        let mut out = B.zeros(Shape::new(m, n));
        for precision in [Precision::Bf16, Precision::Bf16x3] {
            let backend = Cpu::with_precision(precision);
            report(&format!("matmul_into {} {m}x{k}x{n}", precision.name()), giga, "GFLOP/s", || {
                backend.matmul_into(1.0, &a, Transpose::No, &b, Transpose::No, Accumulate::Replace, &mut out).unwrap();
            });
        }
        report(&format!("matmul_into {m}x{k}x{n}"), giga, "GFLOP/s", || {
            B.matmul_into(1.0, &a, Transpose::No, &b, Transpose::No, Accumulate::Replace, &mut out).unwrap();
        });
        let (w, bias) = (matrix(n, k), matrix(1, n));
        report(&format!("linear_forward {m}x{k}x{n}, bias"), giga, "GFLOP/s", || B.linear_forward(&a, &w, Some(&bias)));
        let mut dw = B.zeros(Shape::new(n, k));
        report(&format!("dyT x {n}x{m}x{k}"), giga, "GFLOP/s", || {
            B.matmul_into(1.0, &out, Transpose::Yes, &a, Transpose::No, Accumulate::Add, &mut dw).unwrap();
        });
    }
}

fn elementwise() {
    let (x, dy) = (matrix(1024, 3072), matrix(1024, 3072));
    let mega = 1e-6 * x.as_slice().len() as f64;
    for kind in [Activation::GeluTanh, Activation::GeluErf, Activation::Silu, Activation::Tanh, Activation::Identity] {
        report(&format!("{kind:?} forward"), mega, "Melem/s", || B.activation_forward(kind, &x));
        report(&format!("{kind:?} backward"), mega, "Melem/s", || B.activation_backward(kind, &dy, &x));
    }
    report("SwiGLU forward", mega, "Melem/s", || B.gated_forward(Activation::Silu, &x, &dy));
    report("SwiGLU backward", mega, "Melem/s", || B.gated_backward(Activation::Silu, &dy, &x, &dy));
    report("multiply", mega, "Melem/s", || B.multiply(&x, &dy));
    report("dot", mega, "Melem/s", || B.dot(&x, &dy));
    let (gain, shift) = (matrix(1, 3072), matrix(1, 3072));
    let (mut dgain, mut dshift) = (gain.clone(), gain.clone());
    report("layer_norm_forward", mega, "Melem/s", || B.layer_norm_forward(&x, &gain, &shift, 1e-5));
    report("layer_norm_backward", mega, "Melem/s", || {
        B.layer_norm_backward(&dy, &x, &gain, 1e-5, Some((&mut dgain, &mut dshift)))
    });
    report("rms_norm_backward", mega, "Melem/s", || B.rms_norm_backward(&dy, &x, &gain, 1e-5, Some(&mut dgain)));
    let positions: Vec<u32> = (0..1024).map(|t| t % 256).collect();
    let frequencies: Vec<f64> = (0..32).map(|i| 1e4_f64.powf(-f64::from(i) / 32.0)).collect();
    let mut turned = x.clone();
    report("rotary", mega, "Melem/s", || {
        B.rotary(&mut turned, 64, &positions, &frequencies, RotaryStyle::Halves, false).unwrap();
    });
    let labels: Vec<Label> = (0..1024).map(Label::Class).collect();
    let draws = vec![Label::Draw(0.7); 1024];
    let mut logits = x.clone();
    report("cross_entropy", mega, "Melem/s", || B.cross_entropy(CrossEntropy::Loss, &mut logits, &labels));
    report("cross_entropy, drawn labels", mega, "Melem/s", || B.cross_entropy(CrossEntropy::Loss, &mut logits, &draws));
}

fn attention() {
    for len in [128, 256, 1024] {
        let rows = 1024;
        let spec = Attention { heads: 12, kv_heads: 12, head_dim: 64, causal: true, window: None, scale: 0.125 };
        let segments: Vec<Segment> = (0..rows / len).map(|i| Segment { start: i * len, len }).collect();
        let (q, k, v, dy) = (matrix(rows, 768), matrix(rows, 768), matrix(rows, 768), matrix(rows, 768));
        report(&format!("attention_forward, 12 heads of 64, T={len}"), rows as f64, "tokens/s", || {
            B.attention_forward(&spec, &q, &k, &v, &segments)
        });
        report(&format!("attention_backward, 12 heads of 64, T={len}"), rows as f64, "tokens/s", || {
            B.attention_backward(&spec, &dy, &q, &k, &v, &segments)
        });
    }
}

fn folds() {
    let (rows, d_out, d_in, examples) = (1024, 768, 769, 4);
    let giga = 2e-9 * (rows * d_out * d_in) as f64;
    let (dout, input) = (matrix(rows, d_out), matrix(rows, d_in));
    let len = rows / examples;
    let segments: Vec<Segment> = (0..examples).map(|i| Segment { start: i * len, len }).collect();
    for d in [768, 769, 3072] {
        let x = matrix(rows, d);
        let mut acc = sums(d, d);
        let half = 1e-9 * (rows * d * (d + 1)) as f64;
        report(&format!("syrk_accumulate d={d} (triangle)"), half, "GFLOP/s", || B.syrk_accumulate(&x, &mut acc));
    }
    let (mut acc, weight) = (sums(d_out, d_in), matrix(d_out, d_in));
    report("example_gradients 4x256, 768x769", giga, "GFLOP/s", || B.example_gradients(&dout, &input, &segments));
    report("square_accumulate 4x256, 768x769", giga, "GFLOP/s", || {
        B.square_accumulate(&dout, &input, &segments, &mut acc)
    });
    report("weighted_squares 4x256, 768x769", giga, "GFLOP/s", || {
        B.weighted_squares(&dout, &input, &segments, &weight)
    });
    for (count, queries) in [(1, matrix(1, d_out * d_in)), (64, matrix(64, d_out * d_in))] {
        let work = giga + 2e-9 * (examples * count * d_out * d_in) as f64;
        report(&format!("example_dots 4x256, 768x769, {count} queries"), work, "GFLOP/s", || {
            B.example_dots(&dout, &input, &segments, &queries)
        });
    }
    let short: Vec<Segment> = (0..64).map(|i| Segment { start: i * 16, len: 16 }).collect();
    report("square_accumulate 64x16, 768x769", giga, "GFLOP/s", || {
        B.square_accumulate(&dout, &input, &short, &mut acc)
    });
    let queries = matrix(256, d_out * d_in);
    let work = giga + 2e-9 * (64 * 256 * d_out * d_in) as f64;
    report("example_dots 64x16, 768x769, 256 queries", work, "GFLOP/s", || {
        B.example_dots(&dout, &input, &short, &queries)
    });
    let single: Vec<Segment> = (0..rows).map(|start| Segment { start, len: 1 }).collect();
    report("square_accumulate 1024x1, 768x769", giga, "GFLOP/s", || {
        B.square_accumulate(&dout, &input, &single, &mut acc)
    });
}

/// Gradients of examples times signs that are made for them: a block of a random projection.
fn projection() {
    let (rows, dim) = (1024, 1024);
    let signs = Signs::new(0, 0, "layer");
    report("random_signs 1024x1024", 1e-9 * (rows * dim) as f64, "G/s", || B.random_signs(signs, 0..rows, dim));
    for examples in [16, 256] {
        let gradients = matrix(examples, rows);
        let work = 2e-9 * (examples * rows * dim) as f64;
        report(&format!("projection {examples}x1024, to 1024"), work, "GFLOP/s", || {
            B.matmul(&gradients, Transpose::No, &B.random_signs(signs, 0..rows, dim), Transpose::No)
        });
    }
}

/// A pass that holds its activations and then drops them all: what the allocation of matrices costs.
fn memory() {
    let x = matrix(1024, 768);
    let bytes = (200 * x.as_slice().len() * size_of::<f32>()) as f64;
    report("200 copies held, then dropped", 1e-6 * bytes, "MB/s", || {
        (0..200).map(|_| B.slice_rows(&x, 0, 1024).unwrap()).collect::<Vec<_>>()
    });
}

fn main() {
    if single_thread() {
        rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().unwrap();
    }
    products();
    elementwise();
    attention();
    folds();
    projection();
    memory();
}
