/** Starts the console: the theme, the tools at the top, and the pages. */

import { askForKey, keyButton } from "./components/key-dialog.js";
import { setKeyAsker } from "./core/api.js";
import { startRouter } from "./core/router.js";
import { startTheme, themeSwitch } from "./core/theme.js";
import { generatePage } from "./generate/page.js";
import { modelPage } from "./models/model-page.js";
import { modelsPage } from "./models/models-page.js";
import { servicePage } from "./service/page.js";
import { storagePage } from "./service/storage-page.js";
import { datasetPage } from "./training/dataset-page.js";
import { datasetsPage } from "./training/datasets-page.js";
import { startDropping } from "./training/drop.js";
import { jobPage } from "./training/job-page.js";
import { jobsPage } from "./training/jobs-page.js";
import { newJobPage } from "./training/new-job-page.js";
import { sweepPage } from "./training/sweep-page.js";
import { sweepsPage } from "./training/sweeps-page.js";

startTheme();
document.getElementById("tools").append(keyButton(), themeSwitch());
setKeyAsker(askForKey);
startDropping();
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part behind # names the page
  document.getElementById("main").focus();
});

startRouter(
  [
    ["/generate", generatePage],
    ["/training/jobs", jobsPage],
    ["/training/jobs/{id}", jobPage],
    ["/training/new", newJobPage],
    ["/training/datasets", datasetsPage],
    ["/training/datasets/{name}", datasetPage],
    ["/training/sweeps", sweepsPage],
    ["/training/sweeps/{id}", sweepPage],
    ["/models", modelsPage],
    ["/models/{name}", modelPage],
    ["/service", servicePage],
    ["/service/storage", storagePage],
  ],
  "#/generate",
);
