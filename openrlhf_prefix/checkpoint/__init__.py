"""Resumable checkpoints as folders of files: what makes one complete, which one is used, and whether it fits a run.

    checkpoints/_actor/
      global_step4/              complete: its manifest was written last, and the folder then renamed
        manifest.json            sizes and checksums of all other files, and the facts a resume compares
        *_model_states.pt, *_optim_states.pt     DeepSpeed: weights, optimizer, scheduler; one share per rank
        rank_0.pt ...            random number generators of every rank
        controller.pt            data position, KL controller, best metric, sampler state, generators
        hf/                      an export without its weights: config, generation config, tokenizer
      best_global_step5/         the same, of the best evaluation
      .partial_global_step8/     being written, or left by a kill

Nothing here knows the stack: runtime/learner/checkpoints.py fills the folders.
"""
