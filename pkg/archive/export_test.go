package archive

// SetMaxLoaded has less memory for loaded parts.
func (e *Entries) SetMaxLoaded(bytes int64) { e.maxLoaded = bytes }

// Loaded returns how many parts are loaded, and the bytes of memory that they take but for the largest one.
func (e *Entries) Loaded() (parts int, bytes int64) {
	largest := int64(0)
	for _, p := range e.parts {
		bytes, largest = bytes+p.size(), max(largest, p.size())
	}
	return len(e.parts), bytes - largest
}
