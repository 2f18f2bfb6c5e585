//! A clip through the whole listener, as text that two targets can be compared by.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use sori_dsp::FrontEnd;
use sori_listener::{ClipSummary, Event, Listener, Memory, Verdict};
use sori_nn::Network;
use sori_package::Package;

use crate::suite::{Hash, words};

/// What `sori-mcu` prints about its clip, line by line; 16-bit samples at the contract's rate.
///
/// # Panics
/// For packages without a mel contract.
pub fn answer(package: &Package<'_>, samples: &[i16]) -> String {
    let mel = package.mel().expect("only packages with a contract listen");
    let mut frontend = vec![0; FrontEnd::workspace_len(&mel)];
    let mut arena = words(Network::arena_bytes(package, 1));
    let memory = Memory {
        frontend: &mut frontend,
        arena: bytemuck::cast_slice_mut(&mut arena),
    };
    let mut listener =
        Listener::new(package, memory, mel.sample_rate_hz).expect("the memory is exact");
    let mut summary = ClipSummary::new(package);
    let (mut hash, mut outputs) = (Hash::new(), 0);
    let mut on_event = |event: Event<'_>| {
        summary.observe(&event);
        if let Event::Output { logits, .. } = event {
            outputs += 1;
            hash.int8(logits);
        }
    };
    for &sample in samples {
        listener.push(&[sori_dsp::from_i16(sample)], &mut on_event);
    }
    listener.finish(&mut on_event);
    let clip = summary.clip();
    let verdict = match clip.verdict {
        Verdict::Silence => "silence",
        Verdict::Unknown => "unknown",
        Verdict::Label(label) => package.labels().nth(label.into()).unwrap_or("no label"),
    };
    let best = clip
        .best
        .map_or(0, |best| clip.probabilities_q15[usize::from(best)]);
    format!(
        "clip: {} samples, {} feature rows, {outputs} output rows\n\
         logits: crc32 {:08x}\n\
         decision: {verdict}, largest probability {best}/32768\n",
        samples.len(),
        clip.rows,
        hash.crc(),
    )
}
