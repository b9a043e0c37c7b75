//! BERT as sentence-transformers runs it: encoder, mean of the last layer over a text's tokens, unit length.
//!
//! Source: Devlin et al., "BERT", 2019, and Reimers and Gurevych, "Sentence-BERT", 2019.

use tch::{Kind, Tensor};

use super::weights::Weights;
use crate::config::ModelConfig;
use crate::error::DeviceError;
use crate::packing::Packed;

struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn take(weights: &mut Weights, name: &str, inputs: i64, outputs: i64) -> Result<Self, DeviceError> {
        let weight = weights.take(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(Self { weight, bias: weights.take(&format!("{name}.bias"), &[outputs])? })
    }

    /// One multiplication in place of several that have the same input.
    fn stack(parts: &[Self]) -> Result<Self, DeviceError> {
        let weights: Vec<&Tensor> = parts.iter().map(|part| &part.weight).collect();
        let biases: Vec<&Tensor> = parts.iter().map(|part| &part.bias).collect();
        Ok(Self { weight: Tensor::f_cat(&weights, 0)?, bias: Tensor::f_cat(&biases, 0)? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, DeviceError> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
    size: i64,
    eps: f64,
}

impl Norm {
    fn take(weights: &mut Weights, name: &str, size: i64, eps: f64) -> Result<Self, DeviceError> {
        let weight = weights.take(&format!("{name}.weight"), &[size])?;
        Ok(Self { weight, bias: weights.take(&format!("{name}.bias"), &[size])?, size, eps })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, DeviceError> {
        Ok(x.f_layer_norm([self.size], Some(&self.weight), Some(&self.bias), self.eps, true)?)
    }
}

struct Layer {
    query_key_value: Linear,
    attended: Linear,
    attended_norm: Norm,
    up: Linear,
    down: Linear,
    down_norm: Norm,
}

impl Layer {
    fn take(weights: &mut Weights, name: &str, config: &ModelConfig) -> Result<Self, DeviceError> {
        let (hidden, inner) = (i64::from(config.hidden_size), i64::from(config.intermediate_size));
        let eps = config.layer_norm_eps;
        let mut parts = Vec::with_capacity(3);
        for part in ["query", "key", "value"] {
            parts.push(Linear::take(weights, &format!("{name}.attention.self.{part}"), hidden, hidden)?);
        }
        Ok(Self {
            query_key_value: Linear::stack(&parts)?,
            attended: Linear::take(weights, &format!("{name}.attention.output.dense"), hidden, hidden)?,
            attended_norm: Norm::take(weights, &format!("{name}.attention.output.LayerNorm"), hidden, eps)?,
            up: Linear::take(weights, &format!("{name}.intermediate.dense"), hidden, inner)?,
            down: Linear::take(weights, &format!("{name}.output.dense"), inner, hidden)?,
            down_norm: Norm::take(weights, &format!("{name}.output.LayerNorm"), hidden, eps)?,
        })
    }

    /// From `[tokens, hidden]` to the same shape.
    fn forward(&self, x: &Tensor, packed: &Packed, heads: i64) -> Result<Tensor, DeviceError> {
        let attended = attention(&self.query_key_value.forward(x)?, packed, heads)?;
        let x = self.attended_norm.forward(&self.attended.forward(&attended)?.f_add_(x)?)?;
        let inner = self.up.forward(&x)?.f_gelu_("none")?;
        self.down_norm.forward(&self.down.forward(&inner)?.f_add_(&x)?)
    }
}

/// Attention within each text: `[tokens, 3 * hidden]` to `[tokens, hidden]`.
fn attention(query_key_value: &Tensor, packed: &Packed, heads: i64) -> Result<Tensor, DeviceError> {
    let mut attended = Vec::with_capacity(packed.runs.len());
    let mut start = 0;
    for run in &packed.runs {
        let (texts, tokens) = (run.texts as i64, run.tokens as i64);
        let each = query_key_value.f_narrow(0, start, texts * tokens)?.f_view([texts, tokens, 3, heads, -1])?;
        let [query, key, value] = [each.f_select(2, 0)?, each.f_select(2, 1)?, each.f_select(2, 2)?];
        let of_run = Tensor::f_scaled_dot_product_attention::<Tensor>(
            &query.f_transpose(1, 2)?,
            &key.f_transpose(1, 2)?,
            &value.f_transpose(1, 2)?,
            None,
            0.0,
            false,
            None,
            false,
        )?;
        attended.push(of_run.f_transpose(1, 2)?.f_reshape([texts * tokens, -1])?);
        start += texts * tokens;
    }
    Ok(Tensor::f_cat(&attended, 0)?)
}

pub struct Bert {
    words: Tensor,
    /// The embedding of each position, with that of token type 0 added: a lone text has no other.
    positions: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
    heads: i64,
    hidden: i64,
}

impl Bert {
    /// Takes what `config` describes out of `weights`.
    ///
    /// # Errors
    /// Weights that are not of that shape.
    pub fn new(config: &ModelConfig, weights: &mut Weights) -> Result<Self, DeviceError> {
        let hidden = i64::from(config.hidden_size);
        let mut table = |name: &str, rows: u32| {
            weights.take(&format!("embeddings.{name}_embeddings.weight"), &[i64::from(rows), hidden])
        };
        let words = table("word", config.vocab_size)?;
        let types = table("token_type", config.type_vocab_size)?;
        let positions = table("position", config.max_position_embeddings)?.f_add(&types.f_select(0, 0)?)?;
        let norm = Norm::take(weights, "embeddings.LayerNorm", hidden, config.layer_norm_eps)?;
        let layers = (0..config.num_hidden_layers)
            .map(|place| Layer::take(weights, &format!("encoder.layer.{place}"), config))
            .collect::<Result<_, _>>()?;
        weights.none_left("encoder.layer.")?;
        Ok(Self { words, positions, norm, layers, heads: i64::from(config.num_attention_heads), hidden })
    }

    /// Numbers of one vector.
    pub fn dimensions(&self) -> usize {
        self.hidden as usize
    }

    /// The unit vectors of the packed texts, one after the other, in packed order.
    ///
    /// # Errors
    /// What libtorch throws, out of memory for one.
    pub fn embed(&self, packed: &Packed) -> Result<Vec<f32>, DeviceError> {
        let device = self.words.device();
        let ids = Tensor::f_from_slice(&packed.ids)?.f_to_device(device)?;
        let positions = Tensor::f_from_slice(&packed.positions)?.f_to_device(device)?;
        let words = self.words.f_index_select(0, &ids)?;
        let mut x = self.norm.forward(&self.positions.f_index_select(0, &positions)?.f_add_(&words)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, packed, self.heads)?;
        }
        self.pool(&x, packed)
    }

    fn pool(&self, x: &Tensor, packed: &Packed) -> Result<Vec<f32>, DeviceError> {
        let mut means = Vec::with_capacity(packed.runs.len());
        let mut start = 0;
        for run in &packed.runs {
            let (texts, tokens) = (run.texts as i64, run.tokens as i64);
            let each = x.f_narrow(0, start, texts * tokens)?.f_view([texts, tokens, self.hidden])?;
            means.push(each.f_mean_dim([1i64].as_slice(), false, Kind::Float)?);
            start += texts * tokens;
        }
        let means = Tensor::f_cat(&means, 0)?;
        let lengths = means.f_norm_scalaropt_dim(2, [1i64].as_slice(), true)?.f_clamp_min(1e-12)?;
        let mut vectors = vec![0.0; packed.places.len() * self.dimensions()];
        means
            .f_div(&lengths)?
            .f_to_device(tch::Device::Cpu)?
            .f_copy_data(&mut vectors, packed.places.len() * self.dimensions())?;
        Ok(vectors)
    }
}
