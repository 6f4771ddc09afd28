"""Prompts on ComfyUI servers, for the commands that need many: no torch, and no network but the servers that are named.

client       one server, call by call               graph, api_prompt    a workflow's file as a prompt
places       titles that say where values go        manifest             JSON lines, and files that they name
jobs, fleet  many prompts on several servers        journal, work        what is done, so that a command goes on
progress     how much is done, and how long it takes yet      adapter_files   one name, one file, on all servers
"""
