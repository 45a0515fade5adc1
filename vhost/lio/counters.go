package lio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Counters are the kernel's counters of one LUN since Create (drivers/target/target_core_stat.c,
// scsi_lu).
type Counters struct {
	Commands          uint64 // num_cmds: all commands, also those without data
	ReadMiB, WriteMiB uint64 // read_mbytes and write_mbytes: whole MiB
	Resets            uint64 // resets
}

// Counters reads the counters of all LUNs, in order. It must not be called during or after Remove.
func (tg *Target) Counters() ([]Counters, error) {
	var all []Counters
	for i, img := range tg.images {
		hba := tg.tree.path("core", tg.id.hba(img.plugin))
		names, err := list(hba, fmt.Sprintf("%s.%d.", tg.id, i))
		if err == nil && len(names) != 1 {
			err = &os.PathError{Op: "read", Path: hba, Err: os.ErrNotExist}
		}
		if err != nil {
			return nil, fmt.Errorf("disk %d: %w", i, err)
		}
		var c Counters
		dir := filepath.Join(hba, names[0], "statistics", "scsi_lu")
		for _, f := range []struct {
			name  string
			value *uint64
		}{{"num_cmds", &c.Commands}, {"read_mbytes", &c.ReadMiB}, {"write_mbytes", &c.WriteMiB}, {"resets", &c.Resets}} {
			var e error
			*f.value, e = readCounter(filepath.Join(dir, f.name))
			err = errors.Join(err, e)
		}
		if err != nil {
			return nil, fmt.Errorf("disk %d: %w", i, err)
		}
		all = append(all, c)
	}
	return all, nil
}

func readCounter(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}
