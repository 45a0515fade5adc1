// Package qemu builds the QEMU that emulates the host: Debian's source package of one release, whatever the machine's own is,
// x86_64 only, translation (TCG) only, with one line added.
//
// The line: helper_vmrun in svm_helper.c, case SVM_EVTINJ_TYPE_INTR, sets cs->exception_index and delivers the interrupt
// itself. Nobody clears the index, so a later exit of the translation loop delivers the interrupt a second time, whatever
// IF says; a guest under load then dies of a double fault or hangs. Clearing it after the delivery ends that. Where the
// place for the line is not found, the build stops: a QEMU that nobody understood must not run tests.
//
// The result is kept in the cache under source version and hash of the recipe; sources and objects are thrown away.
package qemu
