package sqlite

import "golang.org/x/sys/windows"

// freeBytes returns how many bytes the user of this process can still write to the volume
// of a folder.
func freeBytes(folder string) (free uint64, err error) {
	path, err := windows.UTF16PtrFromString(folder)
	if err != nil {
		return 0, err
	}
	err = windows.GetDiskFreeSpaceEx(path, &free, nil, nil)
	return free, err
}
