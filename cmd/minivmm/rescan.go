package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

const rescanHelp = `Look whether the files or block devices behind a running machine's disks have changed their sizes, and
print those that did. The guest of a disk served in process is told; on a disk of vhost-scsi it must
look itself: in Linux, echo 1 > /sys/class/block/sda/device/rescan.`

func newRescanCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rescan NAME",
		Short:   "Have a running machine's disks follow the sizes of their images",
		Long:    rescanHelp,
		Example: "  truncate -s +1G web.img && minivmm rescan web",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			resp, _, err := control.Call(args[0], control.Request{Command: control.CommandRescan})
			if err != nil {
				return err
			}
			for _, d := range resp.Disks {
				heard := "the guest is told"
				if !d.Told {
					heard = "the guest must look itself: echo 1 > /sys/class/block/sdX/device/rescan"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s\n", d.ID, config.Size(d.SizeBytes), heard)
			}
			return nil
		},
	}
}
