// The model, in a thread of its own: measures an image, runs the chain step by step, and predicts the quality.
"use strict";

let model = null; // settings, arrays, and the two graphs as sessions
let newest = 0; // the latest request; an older one gives up between two steps

self.onmessage = async ({ data }) => {
  try {
    if (data.kind === "load") {
      model = await load(data);
      self.postMessage({ kind: "ready" });
    } else {
      newest = data.id;
      await recover(data.id, data.image, data.choice);
    }
  } catch (error) {
    self.postMessage({ kind: "failed", id: data.id, message: error && error.message ? error.message : String(error) });
  }
};

function bytes(base64) {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < out.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

async function load({ runtime, exported }) {
  const packed = new Blob([bytes(runtime.wasm)]).stream();
  const wasm = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  const address = URL.createObjectURL(new Blob([runtime.script], { type: "text/javascript" }));
  const ort = await import(address);
  ort.env.wasm.numThreads = 1; // more need a page that a server vouches for
  ort.env.wasm.wasmBinary = wasm;
  ort.env.logLevel = "error";
  const sessions = {};
  for (const name of ["start", "step"]) sessions[name] = await ort.InferenceSession.create(bytes(exported[name]));
  const arrays = {
    phi: new Float32Array(bytes(exported.phi).buffer), // (N, Q)
    order: new Int32Array(bytes(exported.order).buffer), // (H·W,)
    held: new Int32Array(bytes(exported.held).buffer), // of all ratios, one after the other
  };
  arrays.inverse = new Int32Array(arrays.order.length);
  arrays.order.forEach((pixel, place) => (arrays.inverse[pixel] = place));
  return { ort, ...sessions, ...arrays, ...exported.settings };
}

// A x for every block by the first `rows` columns of Φ, in the place that the graphs want them: (blocks, Q).
function measure(image, rows) {
  const { phi, order, columns, block_size: side } = model;
  const pixels = side * side, blocks = order.length / pixels;
  const y = new Float32Array(blocks * columns), sums = new Float64Array(rows);
  for (let block = 0; block < blocks; block++) {
    sums.fill(0);
    for (let n = 0; n < pixels; n++) {
      const value = image[order[block * pixels + n]];
      for (let row = 0, at = n * columns; row < rows; row++, at++) sums[row] += value * phi[at];
    }
    y.set(sums, block * columns);
  }
  return y;
}

// Aᵀ y: what the measurements show without a model.
function adjoint(y) {
  const { phi, order, columns, block_size: side } = model;
  const pixels = side * side, out = new Float32Array(order.length);
  for (let i = 0; i < order.length; i++) {
    const row = (i % pixels) * columns, block = Math.floor(i / pixels) * columns;
    let sum = 0;
    for (let column = 0; column < columns; column++) sum += phi[row + column] * y[block + column];
    out[order[i]] = sum;
  }
  return out;
}

// Which of y's places hold a measurement to reconstruct from (1), one held back to judge by (2), or none (0).
function places(choice) {
  const blocks = model.order.length / model.block_size ** 2;
  const place = new Uint8Array(blocks * model.columns);
  for (let block = 0; block < blocks; block++) place.fill(1, block * model.columns, block * model.columns + choice.rows);
  for (let i = choice.held[0]; i < choice.held[1]; i++) {
    const index = model.held[i];
    place[Math.floor(index / choice.rows) * model.columns + (index % choice.rows)] = 2;
  }
  return place;
}

// PSNR and its interval from the measurements held back: idm_lib.evaluation.predict_quality without noise.
function predict(image, y, place, choice) {
  const { phi, columns, block_size: side } = model;
  const pixels = image.length, seenAgain = measure(image, choice.rows);
  const flatRow = new Float64Array(choice.rows); // what a wrong mean brightness would look like
  for (let n = 0; n < side * side; n++)
    for (let row = 0; row < choice.rows; row++) flatRow[row] += phi[n * columns + row];
  let seen = 0, kept = 0, flatKept = 0, flatHeld = 0, along = 0, samples = 0;
  for (let i = 0; i < place.length; i++) {
    if (!place[i]) continue;
    const residual = y[i] - seenAgain[i], flat = flatRow[i % columns];
    if (place[i] === 1) (kept++, (seen += residual * residual), (flatKept += flat * flat));
    else (samples++, (along += residual * flat), (flatHeld += flat * flat));
  }
  const offset = along / flatHeld;
  let rest = 0;
  for (let i = 0; i < place.length; i++)
    if (place[i] === 2) rest += (y[i] - seenAgain[i] - offset * flatRow[i % columns]) ** 2;
  rest /= Math.max(1, samples - 1);
  const spread = rest / flatHeld, dimension = Math.max(0, pixels - kept - 1), flatUnseen = Math.max(0, pixels - flatKept);
  const bound = (factor, deviations) => {
    const brightness = deviations
      ? Math.max(0, Math.abs(offset) + deviations * Math.sqrt(spread)) ** 2
      : Math.max(0, offset * offset - spread);
    return -10 * Math.log10(Math.max(1e-12, (seen + flatUnseen * brightness + dimension * factor * rest) / pixels));
  };
  const [large, small] = choice.factors, width = model.deviations;
  return { psnr: bound(1, 0), low: bound(large, width), high: bound(small, -width), samples };
}

async function recover(id, image, number) {
  const choice = model.choices[number], { ort } = model;
  const began = performance.now();
  const y = measure(image, choice.rows), place = places(choice);
  const tensor = (data, dims) => new ort.Tensor(data instanceof Int32Array ? "int32" : "float32", data, dims);
  const size = [1, 1, ...model.image_size], long = [1, y.length];
  const given = {
    y: tensor(y.map((value, i) => (place[i] === 1 ? value : 0)), long),
    mask: tensor(Float32Array.from(place, (kind) => (kind === 1 ? 1 : 0)), long),
    phi: tensor(model.phi, [model.block_size ** 2, model.columns]),
    order: tensor(model.order, [model.order.length]),
    inverse: tensor(model.inverse, [model.order.length]),
  };
  const obsolete = async () => {
    await new Promise((resolve) => setTimeout(resolve)); // let a newer request in
    return id !== newest;
  };
  const tell = (kind, pixels, more) => self.postMessage({ kind, id, image: pixels.slice(), ...more });

  tell("seen", adjoint(y.map((value, i) => (place[i] ? value : 0))), { numbers: choice.rows * (y.length / model.columns) });
  let x = tensor(new Float32Array(image.length).fill(model.image_mean), size);
  for (let i = 0; i < model.iterations; i++) x = (await model.start.run({ x, ...given })).x_next;
  if (await obsolete()) return;
  tell("step", x.data, { done: 0, of: model.steps });
  let pair = { x1: x, x2: tensor(x.data.map((value) => value * model.double), size) };
  for (let step = model.steps - 1; step >= 0; step--) {
    const out = await model.step.run({ ...pair, step: tensor(Int32Array.of(step), [1]), ...given });
    if (await obsolete()) return;
    pair = { x1: out.x1_next, x2: out.x2_next };
    const shown = out.image.data.map((value) => Math.min(1, Math.max(0, value)));
    tell("step", shown, { done: model.steps - step, of: model.steps });
    if (step === 0) {
      const seconds = (performance.now() - began) / 1000;
      tell("done", shown, { seconds, predicted: predict(shown, y, place, choice), ratio: choice.ratio });
    }
  }
}
