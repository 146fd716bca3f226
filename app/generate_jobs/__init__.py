"""The routes /generate-jobs: more images than one answer holds, drawn by the workers."""
