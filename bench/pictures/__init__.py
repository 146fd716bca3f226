"""The pictures of docs/ and weights/, and what each was made from."""
