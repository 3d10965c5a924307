// Package finwait holds nothing but the rule that compiles bpf/ into tracer/.
package finwait

//go:generate go tool bpf2go -target bpfel -output-dir tracer -output-stem bpf -go-package tracer -type event -type wide_event -type metrics -type called_event -type user_event -type call -type registers -type rst_sender -type rst_end -type holding -type live_socket -type walk -type walked_socket -type segment -type segment_key -type hook -type precision -type role -type reason -type detail -type event_flags -type caller -type split -type group_end_key -type group_sums -type owner -type closer bpf bpf/finwait.bpf.c -- -O2 -g -mcpu=v3 -Wall -Wextra -Wno-unused-parameter -Werror
