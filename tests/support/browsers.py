"""The browsers that the tests of the pages take, and `.ci/run` looks for."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
