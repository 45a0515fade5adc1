package lio

import (
	"errors"
	"fmt"

	"minivmm/internal/procfs"
)

// Counters are the kernel's counters of one LUN since Create (drivers/target/target_core_stat.c,
// scsi_lu).
type Counters struct {
	Commands          uint64 // num_cmds: all commands, including those without data
	ReadMiB, WriteMiB uint64 // read_mbytes and write_mbytes: whole MiB
	Resets            uint64 // resets
}

// Counters reads the counters of all LUNs, in the order of the LUNs. It must not be called during
// or after Remove.
func (tg *Target) Counters() ([]Counters, error) {
	var all []Counters
	for i, img := range tg.images {
		var c Counters
		var errs []error
		for name, value := range map[string]*uint64{
			"num_cmds": &c.Commands, "read_mbytes": &c.ReadMiB, "write_mbytes": &c.WriteMiB, "resets": &c.Resets,
		} {
			n, err := procfs.ReadNumber(img.dir + "/statistics/scsi_lu/" + name)
			*value, errs = n, append(errs, err)
		}
		if err := errors.Join(errs...); err != nil {
			return nil, fmt.Errorf("disk %d: %w", i, err)
		}
		all = append(all, c)
	}
	return all, nil
}
