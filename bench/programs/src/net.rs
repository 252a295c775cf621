//! burn: a perceptron in training.

use std::hint::black_box;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::measure::Program;
use crate::random::Random;

#[derive(Module, Debug)]
struct Perceptron {
    first: Linear,
    second: Linear,
    output: Linear,
}

impl Perceptron {
    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let hidden = relu(self.first.forward(input));
        let hidden = relu(self.second.forward(hidden));
        self.output.forward(hidden)
    }
}

/// A step is forward, backward and AdamW's update over 64 rows.
pub(crate) fn program(quick: bool) -> Program {
    let (rows, inputs, width, classes) = if quick { (4, 32, 32, 10) } else { (64, 784, 1024, 10) };
    let device = Device::flex().autodiff();
    let mut model = Some(Perceptron {
        first: LinearConfig::new(inputs, width).init(&device),
        second: LinearConfig::new(width, width).init(&device),
        output: LinearConfig::new(width, classes).init(&device),
    });
    let mut optimizer = AdamWConfig::new().init();
    let loss = CrossEntropyLossConfig::new().init(&device);
    let mut random = Random::new(1);
    let input = TensorData::new(random.floats(rows * inputs, 1.0), [rows, inputs]);
    let input = Tensor::<2>::from_data(input, &device);
    let labels = (0..rows).map(|_| random.uniform(0, classes - 1) as i32).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [rows]), &device);
    Program::new(quick, 5, 120, move || {
        if let Some(current) = model.take() {
            let loss = loss.forward(current.forward(input.clone()), labels.clone());
            let gradients = GradientsParams::from_grads(loss.backward(), &current);
            model = Some(black_box(optimizer.step(1e-3, current, gradients)));
        }
        Ok(())
    })
}
