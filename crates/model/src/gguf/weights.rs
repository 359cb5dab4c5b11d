//! From a tensor's bytes in the file to f32 rows in Hugging Face order.

use anamnesis::parse::gguf::GgufType;
use anamnesis::{AnamnesisError, F32Out, dequantize_gguf_blocks};
use half::{bf16, f16};

/// Whether [`decode`] knows `dtype`. Integers are no weights, and NVFP4 keeps a second scale in another tensor.
pub(super) fn decodes(dtype: GgufType) -> bool {
    matches!(dtype, GgufType::F64 | GgufType::F32 | GgufType::F16 | GgufType::BF16)
        || (dtype.is_quantized() && dtype != GgufType::NVFP4)
}

/// The `n` values that `bytes` hold in type `dtype`.
///
/// Block types are decoded as ggml's reference `dequantize_row_*` does, in f32.
pub(super) fn decode(bytes: &[u8], dtype: GgufType, n: usize) -> Result<Vec<f32>, AnamnesisError> {
    let values: Vec<f32> = match dtype {
        GgufType::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        GgufType::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        GgufType::F16 => bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        GgufType::BF16 => bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        _ => {
            let mut values = Vec::with_capacity(n);
            dequantize_gguf_blocks::<F32Out, _>(bytes, dtype, n, |block| {
                values.extend(block.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)));
                Ok(())
            })?;
            values
        }
    };
    if values.len() == n {
        Ok(values)
    } else {
        let reason = format!("{} bytes of {dtype} hold {} values, not {n}", bytes.len(), values.len());
        Err(AnamnesisError::Parse { reason })
    }
}

/// Undoes llama.cpp's interleaving of query and key rows.
///
/// `rows`: `[heads * 2 * half, width]`. llama.cpp rotates neighbouring pairs (2i, 2i + 1) where Hugging Face rotates
/// (i, i + half), so its converter moves row i of each half to row 2i, 2i + 1 of the head. Back: `[heads, half, 2, width]`
/// with the middle two axes swapped.
pub(super) fn undo_interleaving(rows: &[f32], heads: usize, half: usize, width: usize) -> Vec<f32> {
    debug_assert_eq!(rows.len(), heads * half * 2 * width);
    let mut out = Vec::with_capacity(rows.len());
    for head in rows.chunks_exact((half * 2 * width).max(1)) {
        for part in 0..2 {
            for i in 0..half {
                let from = (2 * i + part) * width;
                out.extend_from_slice(&head[from..from + width]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::undo_interleaving;

    #[test]
    fn each_head_gets_its_even_rows_then_its_odd_rows() {
        let rows: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let expected = [0., 1., 4., 5., 2., 3., 6., 7., 8., 9., 12., 13., 10., 11., 14., 15.];
        assert_eq!(undo_interleaving(&rows, 2, 2, 2), expected);
    }
}
