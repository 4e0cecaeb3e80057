//go:build unix

package fileblob

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lock waits until this process has the file's lock, which ends with the process at the latest.
func lock(file *os.File) error { return flock(file, unix.LOCK_EX) }

func unlock(file *os.File) error { return flock(file, unix.LOCK_UN) }

func flock(file *os.File, how int) error {
	for {
		if err := unix.Flock(int(file.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
