//go:build unix

package sqlite

import "golang.org/x/sys/unix"

// freeBytes returns how many bytes a process without privileges can still write to the
// file system of a folder.
func freeBytes(folder string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err != nil {
		return 0, err
	}
	return uint64(fs.Bavail) * uint64(fs.Bsize), nil //nolint:unconvert // the types differ between systems; no size is negative
}
