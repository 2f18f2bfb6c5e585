// Brings the parts of the page together.

import * as card from "./card.js";
import * as classify from "./classify.js";
import { setLabels as setColours } from "./colour.js";
import * as day from "./day.js";
import * as doctor from "./doctor.js";
import * as health from "./health.js";
import * as history from "./history.js";
import * as now from "./now.js";
import * as spectrogram from "./spectrogram.js";
import { listen } from "./stream.js";
import { $, post, sentence, time } from "./util.js";

let labels = "";
let model = "";
let status = null;
let connected = null;

/** Another package has other labels. */
function know(recognizer) {
  if (recognizer.labels.join() !== labels) {
    labels = recognizer.labels.join();
    setColours(recognizer.labels);
    now.setLabels(recognizer.labels);
    history.setLabels(recognizer.labels);
    day.show();
  }
  const which = `${recognizer.name} ${recognizer.path} ${recognizer.swapped}`;
  if (which !== model) {
    model = which;
    card.show();
  }
  spectrogram.setRate(recognizer.rows_per_second);
}

function show(latest) {
  status = latest;
  know(latest.recognizer);
  health.show(latest);
  now.show(latest);
  now.measure(latest.channels);
}

function tell(words) {
  $("confirm-note").textContent = words;
}

$("mute").onclick = () => {
  post("/api/mute", { muted: !status?.muted }).catch((error) => tell(error.message));
};
$("confirm").onclick = () => {
  post("/api/confirm").catch((error) => tell(error.message));
};

spectrogram.start();
history.start();
day.start();
doctor.start();
classify.start();

listen({
  connected(is) {
    if (is === connected) return;
    const banner = $("connection");
    if (is) {
      banner.hidden = true;
      // What was missed meanwhile is in the database.
      if (connected === false) day.show();
    } else {
      banner.hidden = false;
      banner.textContent = "Connection lost, trying again…";
      $("state").dataset.state = "lost";
      $("state-words").textContent = "Not connected";
    }
    connected = is;
  },
  status: show,
  rows: spectrogram.push,
  heard(heard) {
    if (!status || status.muted) return;
    status.heard = heard;
    now.hear(heard);
    $("confirm").disabled = false;
  },
  channels: now.measure,
  span: day.push,
  muted({ muted }) {
    if (status) show({ ...status, muted });
  },
  confirmed: (heard) => tell(sentence(`noted: ${heard.verdict} at ${time(heard.time_ms)}`)),
});
