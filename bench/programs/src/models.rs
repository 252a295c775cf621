//! candle: three models at inference, and a small one in training.

use std::hint::black_box;
use std::sync::Mutex;

use anyhow::Result;
use candle_core::{DType, Device, Module, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{AdamW, Init, Optimizer, VarBuilder, VarMap, loss};
use candle_transformers::models::{bert, llama, resnet};

use crate::measure::Program;
use crate::random::Random;

const CPU: &Device = &Device::Cpu;

/// BERT-base over 128 tokens.
pub(crate) fn bert(batch: usize, quick: bool) -> Result<Program> {
    let mut config = bert::Config::default();
    if quick {
        (config.num_hidden_layers, config.vocab_size) = (1, 1000);
    }
    let model = bert::BertModel::load(weights(), &config)?;
    let tokens = tokens(batch, 128, config.vocab_size)?;
    let types = tokens.zeros_like()?;
    Ok(Program::new(quick, 1, if batch == 1 { 8 } else { 2 }, move || {
        black_box(model.forward(&tokens, &types, None)?);
        Ok(())
    }))
}

/// A small Llama: a step is a prompt of 64 tokens and 128 more, one by one.
pub(crate) fn llama(quick: bool) -> Result<Program> {
    let (layers, prompt, more) = if quick { (1, 8, 4) } else { (12, 64, 128) };
    let config = llama::Config {
        hidden_size: 768,
        intermediate_size: 2048,
        vocab_size: if quick { 1000 } else { 16_000 },
        num_hidden_layers: layers,
        num_attention_heads: 12,
        num_key_value_heads: 12,
        max_position_embeddings: 256,
        ..llama::Config::config_7b_v2(false)
    };
    let model = llama::Llama::load(weights(), &config)?;
    let prompt = tokens(1, prompt, config.vocab_size)?;
    let generate = move |more: usize| -> Result<()> {
        let mut cache = llama::Cache::new(true, DType::F32, &config, CPU)?;
        let (mut input, mut position) = (prompt.clone(), 0);
        for _ in 0..=more {
            let logits = model.forward(&input, position, &mut cache)?;
            position += input.dim(1)?;
            input = logits.argmax(1)?.unsqueeze(0)?;
        }
        black_box(input);
        Ok(())
    };
    generate(more / 8)?;
    Ok(Program::new(quick, 0, 1, move || generate(more)))
}

/// ResNet-50 over one image of 224 x 224.
pub(crate) fn resnet50(quick: bool) -> Result<Program> {
    let model = resnet::resnet50(1000, weights())?;
    let side = if quick { 32 } else { 224 };
    let image = Tensor::from_vec(Random::new(2).floats(3 * side * side, 1.0), (1, 3, side, side), CPU)?;
    Ok(Program::new(quick, 2, 10, move || {
        black_box(model.forward(&image)?);
        Ok(())
    }))
}

/// A small convolutional net: a step is forward, backward and AdamW's update over 32 images of 32 x 32.
pub(crate) fn train(quick: bool) -> Result<Program> {
    let batch = if quick { 2 } else { 32 };
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, CPU);
    let padded = candle_nn::Conv2dConfig { padding: 1, ..Default::default() };
    let first = candle_nn::conv2d(3, 32, 3, padded, builder.pp("first"))?;
    let second = candle_nn::conv2d(32, 64, 3, padded, builder.pp("second"))?;
    let hidden = candle_nn::linear(64 * 8 * 8, 256, builder.pp("hidden"))?;
    let output = candle_nn::linear(256, 10, builder.pp("output"))?;
    let mut optimizer = AdamW::new_lr(variables.all_vars(), 1e-3)?;
    let images = Tensor::from_vec(Random::new(2).floats(batch * 3 * 32 * 32, 1.0), (batch, 3, 32, 32), CPU)?;
    let labels = tokens(1, batch, 10)?.squeeze(0)?;
    Ok(Program::new(quick, 2, 12, move || {
        let images = first.forward(&images)?.relu()?.max_pool2d(2)?;
        let images = second.forward(&images)?.relu()?.max_pool2d(2)?;
        let logits = output.forward(&hidden.forward(&images.flatten_from(1)?)?.relu()?)?;
        optimizer.backward_step(&loss::cross_entropy(&logits, &labels)?)?;
        Ok(())
    }))
}

fn weights() -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(Weights(Mutex::new(Random::new(1)))), DType::F32, Device::Cpu)
}

/// Makes weights up, in the order in which a model asks for them.
struct Weights(Mutex<Random>);

impl SimpleBackend for Weights {
    fn get(&self, shape: Shape, name: &str, init: Init, _: DType, device: &Device) -> candle_core::Result<Tensor> {
        let Ok(mut random) = self.0.lock() else { candle_core::bail!("{name}: another weight failed") };
        let values = match init {
            // Norms.
            Init::Const(value) => (0..shape.elem_count()).map(|_| value as f32).collect(),
            // As wide as keeps the size of what passes through a layer.
            _ => {
                let inputs: usize = shape.dims().iter().skip(1).product();
                random.floats(shape.elem_count(), (3.0 / inputs.max(1) as f32).sqrt())
            }
        };
        Tensor::from_vec(values, shape, device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("{name}: a weight of no known shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Rows of tokens below `bound`.
fn tokens(rows: usize, columns: usize, bound: usize) -> Result<Tensor> {
    let mut random = Random::new(3);
    let tokens: Vec<u32> = (0..rows * columns).map(|_| random.uniform(0, bound - 1) as u32).collect();
    Ok(Tensor::from_vec(tokens, (rows, columns), CPU)?)
}
