// The page around the model: pick a photo, choose the ratio, watch the steps. Nothing leaves the page.
"use strict";

(() => {
  const assets = (window.idmDemo = window.idmDemo || {}); // the files of the model add themselves here

  function start(root) {
    const find = (selector) => root.querySelector(selector);
    const [photo, seen, result] = ["photo", "seen", "result"].map((name) => find(`.idm-${name} canvas`));
    const ratio = find("input[type=range]"), status = find(".idm-status"), steps = find(".idm-steps");
    const settings = JSON.parse(root.dataset.settings);
    const [height, width] = settings.image_size, pixels = height * width;
    let image = null, worker = null, loading = null, request = 0, shown = null, asked = 0, taken = 0;

    // Drawing

    function draw(canvas, values) {
      const context = canvas.getContext("2d"), data = context.createImageData(width, height);
      for (let i = 0; i < pixels; i++) {
        data.data.fill(Math.round(255 * Math.min(1, Math.max(0, values[i]))), 4 * i, 4 * i + 3);
        data.data[4 * i + 3] = 255;
      }
      context.putImageData(data, 0, 0);
    }

    function psnr(values) {
      let sum = 0;
      for (let i = 0; i < pixels; i++) sum += (Math.min(1, Math.max(0, values[i])) - image[i]) ** 2;
      return sum ? `${(-10 * Math.log10(sum / pixels)).toFixed(1)} dB` : "exact";
    }

    function show(values, words) {
      draw(result, values);
      find(".idm-result figcaption").textContent = words;
      result.setAttribute("aria-label", words);
    }

    function say(words) {
      status.textContent = words;
    }

    function label() {
      const choice = settings.choices[ratio.value];
      const count = choice.rows * (pixels / settings.block_size ** 2);
      const words = `${Math.round(100 * choice.ratio)} %: ${count.toLocaleString("en")} numbers for ${pixels.toLocaleString("en")} pixels`;
      find(".idm-ratio output").textContent = words;
      ratio.setAttribute("aria-valuetext", words);
    }

    // The photo

    function take(source, naturalWidth, naturalHeight, name) {
      const context = photo.getContext("2d", { willReadFrequently: true });
      const scale = Math.min(naturalWidth / width, naturalHeight / height);
      const [w, h] = [width * scale, height * scale];
      context.imageSmoothingQuality = "high";
      context.fillStyle = "white"; // below what is transparent
      context.fillRect(0, 0, width, height);
      context.drawImage(source, (naturalWidth - w) / 2, (naturalHeight - h) / 2, w, h, 0, 0, width, height);
      const { data } = context.getImageData(0, 0, width, height);
      image = new Float32Array(pixels);
      for (let i = 0; i < pixels; i++)
        image[i] = (0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]) / 255;
      draw(photo, image);
      photo.setAttribute("aria-label", name);
    }

    // Photos are decoded in their own time: of those that were asked for, the last is the one that stays.
    function overtakes(number) {
      if (number < taken) return false;
      taken = number;
      return true;
    }

    async function open(file) {
      const number = ++asked;
      const before = root.getAttribute("aria-busy");
      let bitmap;
      root.setAttribute("aria-busy", "true");
      try {
        bitmap = await createImageBitmap(file);
      } catch {
        root.setAttribute("aria-busy", before);
        say(`${file.name} cannot be read as an image; choose a JPEG, PNG or WebP.`);
        return;
      }
      if (!overtakes(number)) return bitmap.close();
      choose(null);
      take(bitmap, bitmap.width, bitmap.height, `your photo, ${file.name}`);
      bitmap.close();
      run();
    }

    function choose(button) {
      root.querySelectorAll(".idm-photos button").forEach((each) => each.setAttribute("aria-pressed", each === button));
    }

    async function pick(button) {
      const number = ++asked;
      const picture = button.querySelector("img");
      await picture.decode();
      if (!overtakes(number)) return;
      choose(button);
      take(picture, picture.naturalWidth, picture.naturalHeight, picture.alt);
    }

    // The model

    function fetched(name) {
      if (assets[name]) return Promise.resolve(assets[name]);
      return new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `${root.dataset.base}${name}.js`;
        script.onload = () => (assets[name] ? resolve(assets[name]) : reject(new Error(`${name}.js is broken`)));
        script.onerror = () => reject(new Error(`${name}.js did not arrive; check the connection and try again`));
        document.head.append(script);
      });
    }

    function loaded() {
      loading ??= load().catch((error) => {
        loading = null; // the next click tries again
        throw error;
      });
      return loading; // the same for all who wait: one worker, however often the button is pressed
    }

    async function load() {
      say(`Loading the model, ${settings.megabytes} MB, once …`);
      const [runtime, exported, code] = await Promise.all(["runtime", "model", "worker"].map(fetched));
      const made = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
      await new Promise((resolve, reject) => {
        made.onmessage = ({ data }) => (data.kind === "ready" ? resolve() : reject(new Error(data.message)));
        made.onerror = (event) => reject(new Error(event.message || "the browser refused the worker"));
        made.postMessage({ kind: "load", runtime, exported });
      });
      made.onmessage = ({ data }) => data.id === request && answer(data);
      worker = made;
    }

    async function run() {
      const id = ++request;
      root.setAttribute("aria-busy", "true");
      steps.replaceChildren();
      try {
        if (!image) await pick(find(".idm-photos button"));
        await loaded();
        if (id !== request) return;
        say("Measuring …");
        worker.postMessage({ kind: "recover", id, image, choice: Number(ratio.value) });
      } catch (error) {
        answer({ kind: "failed", message: error.message });
      }
    }

    function answer(data) {
      if (data.kind === "failed") {
        root.setAttribute("aria-busy", "false");
        say(`This did not work: ${data.message}.`);
      } else if (data.kind === "seen") {
        draw(seen, data.image);
        find(".idm-seen figcaption").textContent = `what ${data.numbers.toLocaleString("en")} numbers show without a model: ${psnr(data.image)}`;
      } else if (data.kind === "step") {
        const name = data.done ? `after step ${data.done} of ${data.of}` : "the start, from wavelets alone";
        add(data.image, name, data.done ? `step ${data.done}` : "start");
        say(data.done < data.of ? `Step ${data.done + 1} of ${data.of} …` : "Judging …");
      } else {
        const { psnr: guess, low, high, samples } = data.predicted;
        show(data.image, `recovered: ${psnr(data.image)}`);
        say(
          `Recovered in ${data.seconds.toFixed(1)} s: ${psnr(data.image)}. Predicted without the photo, from ${samples} ` +
            `numbers that were held back: ${guess.toFixed(1)} dB, between ${low.toFixed(1)} and ${high.toFixed(1)}.`,
        );
        root.setAttribute("aria-busy", "false");
        assets.last = { photo: image, ...data };
      }
    }

    function add(values, words, short) {
      const item = document.createElement("li"), button = document.createElement("button");
      const canvas = document.createElement("canvas"), text = document.createElement("span");
      [canvas.width, canvas.height, button.type] = [width, height, "button"];
      const quality = psnr(values);
      text.textContent = `${short}\n${quality}`;
      draw(canvas, values);
      button.append(canvas, text);
      button.onclick = () => {
        steps.querySelectorAll("button").forEach((each) => each.setAttribute("aria-pressed", each === button));
        show(values, `${words}: ${quality}`);
      };
      item.append(button);
      steps.append(item);
      button.click();
    }

    // Whoever reads

    root.querySelectorAll(".idm-photos button").forEach((button) => {
      button.onclick = async () => {
        await pick(button);
        run();
      };
    });
    find("input[type=file]").onchange = (event) => event.target.files[0] && open(event.target.files[0]);
    root.addEventListener("dragover", (event) => (event.preventDefault(), root.classList.add("idm-over")));
    root.addEventListener("dragleave", () => root.classList.remove("idm-over"));
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      root.classList.remove("idm-over");
      if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
    });
    ratio.oninput = label;
    ratio.onchange = () => worker && run(); // once it is loaded, moving the slider is enough
    find(".idm-run").onclick = run;
    label();
    pick(find(".idm-photos button"));
  }

  const all = () => document.querySelectorAll(".idm-demo").forEach(start);
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", all) : all();
})();
