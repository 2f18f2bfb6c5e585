//! Takes out channels of expanded tensors that are the same whatever comes in. Not a bit of the
//! logits changes: what such a channel adds is constant, and goes into the biases.

use sori_nn::Requantize;
use sori_package::Activation;
use sori_package::write::{ClassifierSpec, ConvolutionSpec, InvertedResidualSpec, PackageSpec};

/// Values that int8 activations lie between, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    low: i8,
    high: i8,
}

impl Bounds {
    fn of(activation: &Activation) -> Self {
        Self {
            low: activation.min,
            high: activation.max,
        }
    }

    /// With another value among them.
    fn and(self, q: i8) -> Self {
        Self {
            low: self.low.min(q),
            high: self.high.max(q),
        }
    }

    fn constant(self) -> Option<i8> {
        (self.low == self.high).then_some(self.low)
    }
}

/// Takes them out of a package, and says how many they were.
pub(crate) fn prune(spec: &mut PackageSpec<'_>) -> usize {
    let mut pruned = 0;
    let mut input = spec.stem.activation;
    for block in &mut spec.blocks {
        pruned += prune_block(block, &input);
        input = block.projection.activation;
    }
    let width = output_width(spec);
    if let Some(head) = &mut spec.head {
        pruned += prune_head(head, &mut spec.classifier, &input, width);
    }
    pruned
}

fn output_width(spec: &PackageSpec<'_>) -> i32 {
    let blocks = spec.blocks.iter().map(|block| &block.depthwise);
    let spatial = [&spec.stem].into_iter().chain(blocks);
    let spatial = spatial.filter_map(|convolution| convolution.spatial);
    let width = u64::from(spec.input.width);
    spatial.fold(width, |width, spatial| spatial.output_width(width)) as i32
}

fn prune_block(block: &mut InvertedResidualSpec, input: &Activation) -> usize {
    let Some(expansion) = &mut block.expansion else {
        // Its channels are the block's own input.
        return 0;
    };
    let (depthwise, projection) = (&mut block.depthwise, &mut block.projection);
    let channels = usize::from(expansion.c_out);
    let c_in = expansion.weights.len() / channels;
    let given = Bounds::of(input);
    let column = |c: usize| projection.weights.iter().skip(c).step_by(channels);
    // Of each channel after its depthwise kernel, if it is always the same or never read.
    let constants: Vec<Option<i8>> = (0..channels)
        .map(|c| {
            let filter = &expansion.weights[c * c_in..][..c_in];
            let wide = output(expansion, c, filter.iter().map(|&w| (w, given)));
            // At the borders the kernel reads zeros instead.
            let seen = wide.and(expansion.activation.zero_point);
            let taps = (0..9).map(|tap| (depthwise.weights[tap * channels + c], seen));
            let unread = column(c).all(|&w| w == 0);
            let constant = output(depthwise, c, taps).constant();
            constant.or(unread.then_some(0))
        })
        .collect();
    let kept = kept(&constants);
    let filters = projection.weights.chunks_exact(channels);
    for (bias, filter) in projection.bias.iter_mut().zip(filters) {
        *bias += removed(&constants, &kept)
            .map(|(c, q)| i32::from(filter[c]) * i32::from(q))
            .sum::<i32>();
    }
    if kept.len() == channels {
        return 0;
    }
    pick_rows(expansion, &kept);
    pick_columns(&mut depthwise.weights, channels, &kept);
    pick_tables(depthwise, &kept);
    pick_columns(&mut projection.weights, channels, &kept);
    channels - kept.len()
}

/// Channels that stay. A layer without channels is none: the last of them then does.
fn kept(constants: &[Option<i8>]) -> Vec<usize> {
    let channels = 0..constants.len();
    let kept: Vec<_> = channels.filter(|&c| constants[c].is_none()).collect();
    match kept.is_empty() {
        true => vec![constants.len() - 1],
        false => kept,
    }
}

/// Channels that go, and what they always were.
fn removed<'c>(
    constants: &'c [Option<i8>],
    kept: &'c [usize],
) -> impl Iterator<Item = (usize, i8)> + 'c {
    let all = constants.iter().enumerate();
    all.filter_map(|(c, constant)| Some((c, (*constant)?)))
        .filter(|(c, _)| !kept.contains(c))
}

fn prune_head(
    head: &mut ConvolutionSpec,
    classifier: &mut ClassifierSpec,
    input: &Activation,
    width: i32,
) -> usize {
    let channels = usize::from(head.c_out);
    let c_in = head.weights.len() / channels;
    let given = Bounds::of(input);
    let zero_point = i32::from(head.activation.zero_point);
    let constants: Vec<Option<i8>> = (0..channels)
        .map(|c| {
            let filter = &head.weights[c * c_in..][..c_in];
            output(head, c, filter.iter().map(|&w| (w, given))).constant()
        })
        .collect();
    let kept = kept(&constants);
    let filters = classifier.weights.chunks_exact(channels);
    for (bias, filter) in classifier.bias.iter_mut().zip(filters) {
        *bias += removed(&constants, &kept)
            .map(|(c, q)| i32::from(filter[c]) * (i32::from(q) - zero_point) * width)
            .sum::<i32>();
    }
    if kept.len() == channels {
        return 0;
    }
    pick_rows(head, &kept);
    pick_columns(&mut classifier.weights, channels, &kept);
    channels - kept.len()
}

/// What channel `c` can be, for weights and what they read.
fn output(
    convolution: &ConvolutionSpec,
    c: usize,
    products: impl Iterator<Item = (i8, Bounds)>,
) -> Bounds {
    let bias = i64::from(convolution.bias[c]);
    let (low, high) = products.fold((bias, bias), |(low, high), (w, x)| {
        let ends = [x.low, x.high].map(|x| i64::from(w) * i64::from(x));
        (low + ends[0].min(ends[1]), high + ends[0].max(ends[1]))
    });
    let Activation {
        zero_point,
        min,
        max,
        ..
    } = convolution.activation;
    let requantize = Requantize {
        multiplier: convolution.multiplier[c],
        shift: convolution.shift[c],
        zero_point,
        min,
        max,
    };
    // Parsing proves that accumulators fit.
    let end = |acc: i64| requantize.apply(acc.clamp(i32::MIN.into(), i32::MAX.into()) as i32);
    Bounds {
        low: end(low),
        high: end(high),
    }
}

/// Of filters `[c_out][…]`.
fn pick_rows(convolution: &mut ConvolutionSpec, kept: &[usize]) {
    let taps = convolution.weights.len() / usize::from(convolution.c_out);
    let rows = kept
        .iter()
        .flat_map(|&c| &convolution.weights[c * taps..][..taps]);
    convolution.weights = rows.copied().collect();
    pick_tables(convolution, kept);
}

fn pick_tables(convolution: &mut ConvolutionSpec, kept: &[usize]) {
    convolution.bias = kept.iter().map(|&c| convolution.bias[c]).collect();
    convolution.multiplier = kept.iter().map(|&c| convolution.multiplier[c]).collect();
    convolution.shift = kept.iter().map(|&c| convolution.shift[c]).collect();
    convolution.c_out = kept.len() as u16;
}

/// Of `[…][channels]`.
fn pick_columns(weights: &mut Vec<i8>, channels: usize, kept: &[usize]) {
    let rows = weights.chunks_exact(channels);
    let picked = rows.flat_map(|row| kept.iter().map(|&c| row[c]));
    *weights = picked.collect();
}
