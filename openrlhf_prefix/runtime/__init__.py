"""OpenRLHF subclasses: everything that needs ray, vllm or deepspeed.

The life of a prefix, in eight steps:

1. launch.py            the driver reads problems and demonstrations, tokenises them once and checks every row; the
                        controller (trainer.py) takes the next batch of them at global step t
2. generator.py         for each slot of a group the sampler draws a demonstration and a length; the request carries
                        token ids: prompt | prefix, and a budget that counts the prefix
3. rollout.py           the vLLM engine continues the ids, all groups at once and in order (turns.py); the verifier
                        scores prefix + continuation
4. actor.py             one forward of the policy gives old log-probs and entropies of prefix and continuation
5. experience_maker.py  group advantages; of all prefix tokens the most uncertain ones keep theirs
6. batches.py           rows become optimizer steps, ranks and micro-batches
7. actor_trainer.py     the hybrid loss, accumulated exactly (accumulation.py) on a DeepSpeed engine
8. weight_sync.py       the new weights go to the engines and are compared there (weight_check.py); trainer.py writes
                        metrics, rollouts and checkpoints

Whatever dies, the run goes on (docs/reliability.md): resume.py chooses a checkpoint in the driver, checkpoints.py
saves and restores the ranks and resumable.py the controller, engines.py replaces engines, stopping.py saves before the
end of a job, export.py makes HF folders (lora.py merges adapters).

doctor.py and exactness/ look whether the numbers are right. seams.py lists every place where an upstream class is
replaced; platform.py answers CUDA's calls on a CPU.
"""
