// Images to pixel values, as SeedImageProcessor makes them with Pillow: whole numbers in the same places, so that codes agree.

// Pillow keeps this many bits of each weight behind the point
const ONE = 2 ** 22;

// The cubic of Keys (1981) with a = -0.5, which Pillow calls bicubic
function cubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

// For each place of the output: the first place of the input that it reads, and the weights from there on. An image that
// becomes smaller is read through a wider cubic, so that every pixel counts.
function weightsOf(inputSize, outputSize) {
  const scale = inputSize / outputSize;
  const width = Math.max(scale, 1);
  return Array.from({ length: outputSize }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - 2 * width + 0.5), 0);
    const end = Math.min(Math.trunc(centre + 2 * width + 0.5), inputSize);
    const weights = Array.from({ length: end - first }, (_, i) => cubic((i + first - centre + 0.5) / width));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const whole = weights.map((weight) => Math.sign(weight) * Math.floor(0.5 + (Math.abs(weight) / sum) * ONE));
    return { first, weights: whole };
  });
}

// One axis of an RGB image: places lie `step` apart, lines `lineStep`; the result has the same layout.
function resizeAxis(input, inputSize, outputSize, lines, at) {
  const output = new Uint8ClampedArray(outputSize * lines * 3);
  weightsOf(inputSize, outputSize).forEach(({ first, weights }, place) => {
    for (let line = 0; line < lines; line++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = ONE / 2;
        for (let i = 0; i < weights.length; i++) sum += weights[i] * input[at(first + i, line, inputSize) + channel];
        output[at(place, line, outputSize) + channel] = Math.floor(sum / ONE);
      }
    }
  });
  return output;
}

const narrow = (rgb, width, height, newWidth) =>
  resizeAxis(rgb, width, newWidth, height, (place, line, size) => 3 * (line * size + place));
const lower = (rgb, width, height, newHeight) =>
  resizeAxis(rgb, height, newHeight, width, (place, line) => 3 * (place * width + line));

/** RGB bytes of any size to RGB bytes of another size. As in Pillow the width comes first, except in very tall images. */
export function resize(rgb, width, height, newWidth, newHeight) {
  if (height > 100 * width && newHeight < height) {
    return narrow(lower(rgb, width, height, newHeight), width, newHeight, newWidth);
  }
  return lower(narrow(rgb, width, height, newWidth), newWidth, height, newHeight);
}

/** A file or a blob to upright RGB bytes on white, without the colour profile, which Pillow does not apply either. */
export async function readRgb(blob) {
  const image = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, image.width, image.height);
  context.drawImage(image, 0, 0);
  const rgba = context.getImageData(0, 0, image.width, image.height).data;
  const rgb = new Uint8ClampedArray((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  return { rgb, width: image.width, height: image.height };
}

/** RGB bytes to float32 values of shape (3, height, width), by the settings in preprocessor_config.json. */
export function toPixelValues({ rgb, width, height }, settings) {
  const { height: rows, width: columns } = settings.size;
  const small = resize(rgb, width, height, columns, rows);
  const count = rows * columns;
  const values = new Float32Array(3 * count);
  for (let channel = 0; channel < 3; channel++) {
    const mean = settings.image_mean[channel];
    const deviation = settings.image_std[channel];
    for (let i = 0; i < count; i++) {
      values[channel * count + i] = (small[3 * i + channel] * settings.rescale_factor - mean) / deviation;
    }
  }
  return values;
}
