// The exported encoder in a tab: nothing leaves it, and nothing comes from another host.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { readRgb, toPixelValues } from "./pixels.js";

// more threads need headers that plain file servers do not send
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;

async function load() {
  const answer = await fetch(new URL("./preprocessor_config.json", import.meta.url));
  const session = await ort.InferenceSession.create(new URL("./encode.onnx", import.meta.url).href);
  return { settings: await answer.json(), session };
}

/** Settled once the model is loaded, or could not be. */
export const loading = load();

/** A file or a blob to its codes, an array of numbers. */
export async function encode(blob) {
  const { settings, session } = await loading;
  const shape = [1, 3, settings.size.height, settings.size.width];
  const pixelValues = new ort.Tensor("float32", toPixelValues(await readRgb(blob), settings), shape);
  const { codes } = await session.run({ pixel_values: pixelValues });
  return Array.from(codes.data, Number);
}
