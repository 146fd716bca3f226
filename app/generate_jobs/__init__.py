"""The routes /generate-jobs: workers draw more images than one answer can hold."""
