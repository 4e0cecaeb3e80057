package fileblob

// Sync replaces what makes the entries of a folder durable.
func (b *Blobs) Sync(with func(folder string, sync func(string) error) error) {
	sync := b.sync
	b.sync = func(folder string) error { return with(folder, sync) }
}
