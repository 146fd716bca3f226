/** Uploads, draws a PNG and reads an event stream with the TypeScript client of openapi-generator: URL, ARCHIVE. */

import assert from "node:assert";
import { readFileSync } from "node:fs";
import { Configuration, DatasetsApi, ResponseError, SamplingApi, TrainingApi } from "./generated";

async function main(url: string, archive: string): Promise<void> {
  const configuration = new Configuration({ basePath: url });
  const sampling = new SamplingApi(configuration);
  const training = new TrainingApi(configuration);

  const body = new Blob([readFileSync(archive)]);
  const uploaded = await new DatasetsApi(configuration).createDataset({ body, name: "fetch", format: "zip" });
  assert(uploaded.images > 0);

  const drawn = await sampling.generateImages({ generateRequest: { _class: 0, seed: 7, format: "png" } });
  const start = Buffer.from(await drawn.arrayBuffer()).subarray(1, 4);
  assert.strictEqual(start.toString(), "PNG");

  const streamed = await sampling.generateImagesRaw({ generateRequest: { _class: 0, seed: 7, stream: true } });
  let events = "";
  const reader = streamed.raw.body!.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) events += part.value;
  assert(events.includes("event: image") && events.includes("event: done"));

  const trainJobRequest = { recipe: "digits", dataset: "fetch", model: "fetch" };
  const job = await training.createTrainJob({ trainJobRequest });
  await training.cancelTrainJob({ jobId: job.id });
  const watched = await training.watchTrainJob({ jobId: job.id });
  assert(watched.trimEnd().endsWith('data: {"status": "cancelled"}'));

  const refused = await sampling.generateImages({ generateRequest: { _class: "no such class" } }).catch((error) => error);
  assert(refused instanceof ResponseError && refused.response.status === 422);
  assert.strictEqual((await refused.response.json()).type, "/docs/errors#invalid");
}

main(process.argv[2], process.argv[3]);
